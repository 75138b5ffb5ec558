"""What the sandbox cloud holds: a platform account, two customers, their GPU nodes and some plain machines."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from typing import Any

from accounts.providers.aws_template import (
    DEFAULT_ROLE_NAME,
    JUDGE_ACTION,
    READ_ACTIONS,
    SCALE_ACTIONS,
    SWITCH_ACTIONS,
    cloudformation_template,
)
from cloudnodes.providers.base import node_type_slug
from cloudnodes.sandbox import aws_clusters
from cloudnodes.sandbox.aws_layer import find_instance

PLATFORM_ACCOUNT = "900000000001"
CUSTOMERS = {"111111111111": "Northlight Studio", "222222222222": "Pixel Foundry"}
REGION = "us-east-1"
NODE_TYPES = ("FLUX Dev", "FLUX Canny", "SDXL Turbo", "Whisper Large")
TIERS = {"t4": "g4dn.xlarge", "a10g": "g5.xlarge", "a100": "p4d.24xlarge"}
PLAIN = (("render-queue", "m5.xlarge"), ("asset-server", "m5.large"))
IMAGE = "ami-0c0ffee0c0ffee000"
ADMIN, DEMO, PLATFORM = "sandbox-admin", "curfew-demo", "curfew-platform"


@dataclass
class Keys:
    """An access key of the sandbox."""

    account_id: str
    access_key_id: str
    secret_access_key: str


@dataclass
class Sandbox:
    """The sandbox's content. `address` is where it is served, known once it listens."""

    address: str = ""
    new: bool = True  # False when it went on from a file
    keys: dict[tuple[str, str], Keys] = field(default_factory=dict)
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def prepare(self) -> None:
        """Make the accounts' users and keys, then let moto check signatures and policies from now on."""
        from moto import settings

        read_and_switch = [
            *READ_ACTIONS,
            *SWITCH_ACTIONS,
            *SCALE_ACTIONS,
            "autoscaling:CreateOrUpdateTags",
            "autoscaling:DeleteTags",
            JUDGE_ACTION,
        ]
        self.user(PLATFORM_ACCOUNT, PLATFORM, ["sts:*"])
        for account, name in CUSTOMERS.items():
            self.user(account, ADMIN, ["*"])
            self.user(account, DEMO, [*read_and_switch, "sts:GetCallerIdentity"])
            _iam(account).create_account_alias(node_type_slug(name))
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0

    def user(self, account: str, name: str, actions: list[str]) -> Keys:
        """Return the key of a user who may do `actions`, making the user on first use."""
        with self._lock:
            if (account, name) not in self.keys:
                backend = _iam(account)
                backend.create_user("us-east-1", name)
                policy = {
                    "Version": "2012-10-17",
                    "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}],
                }
                backend.put_user_policy(name, "sandbox", json.dumps(policy))
                key = backend.create_access_key(user_name=name)
                self.keys[(account, name)] = Keys(account, key.access_key_id, key.secret_access_key)
            return self.keys[(account, name)]

    def admin_keys(self) -> set[str]:
        """Return the access keys that the sandbox itself uses."""
        return {keys.access_key_id for (_, name), keys in self.keys.items() if name == ADMIN}

    def client(self, service: str, account: str, *, region: str = REGION) -> Any:
        """Return a boto3 client with all rights in a customer's account, over HTTP like anybody else's."""
        import boto3

        key = self.keys[(account, ADMIN)]
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=region,
            aws_access_key_id=key.access_key_id,
            aws_secret_access_key=key.secret_access_key,
        )

    def credentials(self) -> dict[str, Any]:
        """Return the keys that a visitor may use, as JSON."""
        platform = self.keys[(PLATFORM_ACCOUNT, PLATFORM)]
        return {
            "region": REGION,
            "endpoint": self.address,
            "platform": vars(platform),
            "accounts": [{"name": name, **vars(self.keys[(account, DEMO)])} for account, name in CUSTOMERS.items()],
        }

    def launch_stack(
        self,
        external_id: str,
        *,
        account: str = "",
        role_name: str = DEFAULT_ROLE_NAME,
        open_role: bool = False,
        tell_who: bool = False,
    ) -> dict[str, str]:
        """Play the customer who launches Curfew's stack; launching again replaces the role.

        `tell_who` allows CloudTrail's log; `open_role` leaves the external ID out of the trust policy, as a careless person might.
        """
        account = account or next(iter(CUSTOMERS))
        cloudformation, name = self.client("cloudformation", account), f"curfew-{role_name}"
        with self._lock:
            self.delete_stack(account=account, role_name=role_name)
            template = cloudformation_template(external_id, PLATFORM_ACCOUNT, role_name=role_name, switch_scope="all")
            cloudformation.create_stack(
                StackName=name,
                TemplateBody=template,
                Capabilities=["CAPABILITY_NAMED_IAM"],
                Parameters=[{"ParameterKey": "TellWho", "ParameterValue": "yes" if tell_who else "no"}],
            )
            stack = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
            outputs = {o["OutputKey"]: o["OutputValue"] for o in stack["Outputs"]}
            role = _iam(account).get_role(role_name)
            role.policies = {n: json.dumps(_actions_only(d)) for n, d in role.policies.items()}
            if open_role:
                trust = {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"AWS": f"arn:aws:iam::{PLATFORM_ACCOUNT}:root"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                }
                self.client("iam", account).update_assume_role_policy(
                    RoleName=role_name, PolicyDocument=json.dumps(trust)
                )
        return {
            "account_id": account,
            "role_name": role_name,
            "role_arn": outputs["RoleArn"],
            "external_id": external_id,
            "region": REGION,
        }

    def delete_stack(self, *, account: str = "", role_name: str = DEFAULT_ROLE_NAME) -> bool:
        """Play the customer who deletes the stack; returns whether there was one."""
        account = account or next(iter(CUSTOMERS))
        cloudformation, name = self.client("cloudformation", account), f"curfew-{role_name}"
        with self._lock:
            there = any(
                s["StackName"] == name and s["StackStatus"] != "DELETE_COMPLETE"
                for s in cloudformation.describe_stacks()["Stacks"]
            )
            if there:
                cloudformation.delete_stack(StackName=name)
            return there

    def seed(self) -> dict[str, Any]:
        """Make the customers' machines that are not there yet; all tagged ones are stopped. Safe to repeat."""
        with self._lock:
            # Ids come from one seeded row of numbers: whatever is added to the sandbox comes last, so that the machines
            # which a demo's data folder knows keep theirs.
            created = {account: self._seed_account(account) for account in CUSTOMERS}
            return {"created": created, "clusters": aws_clusters.seed(self)}

    def _seed_account(self, account: str) -> list[str]:
        ec2 = self.client("ec2", account)
        pages = ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]}]
        )
        there = {
            t["Value"]
            for page in pages
            for r in page["Reservations"]
            for i in r["Instances"]
            for t in i.get("Tags", [])
            if t["Key"] == "Name"
        }
        made = []
        for node_type in NODE_TYPES:
            for tier, instance_type in TIERS.items():
                name = f"{node_type_slug(node_type)}-{tier}-aws-{account[:4]}"
                if name in there:
                    continue
                base = f"/_sandbox/nodes/{account}/{name}"
                tags = {
                    "Name": name,
                    "curfew:node-type": node_type,
                    "curfew:gpu-tier": tier,
                    "curfew:endpoint": f"{self.address}{base}",
                    "curfew:health-path": f"{base}/health",
                }
                self.make_instance(account_id=account, region=REGION, instance_type=instance_type, tags=tags)
                made.append(name)
        for name, instance_type in PLAIN:
            if name not in there:
                _run(ec2, instance_type, {"Name": name})
                made.append(name)
        return made

    def make_instance(
        self, *, account_id: str, region: str, instance_type: str, tags: dict[str, str]
    ) -> dict[str, str]:
        """Make a machine that has been asleep for long; returns its id."""
        instance_id = _run(self.client("ec2", account_id, region=region), instance_type, tags)
        # Stopped in moto itself, since an order through the API takes its seconds and is counted.
        find_instance(account_id, region, instance_id).stop()
        return {"instance_id": instance_id}

    def end_instance(self, *, account_id: str, region: str, instance_id: str) -> dict[str, str]:
        """Terminate a machine."""
        self.client("ec2", account_id, region=region).terminate_instances(InstanceIds=[instance_id])
        return {"instance_id": instance_id}

    def node_answers(self, account: str, name: str) -> bool:
        """Say whether the service on a seeded node answers: its machine runs."""
        from moto.ec2.models import ec2_backends

        for reservation in list(ec2_backends[account][REGION].reservations.values()):
            for instance in reservation.instances:
                if any(t["key"] == "Name" and t["value"] == name for t in instance.get_tags()):
                    return bool(instance.state == "running")
        return False


def _run(ec2: Any, instance_type: str, tags: dict[str, str]) -> str:
    answer = ec2.run_instances(
        ImageId=IMAGE,
        InstanceType=instance_type,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}],
    )
    return str(answer["Instances"][0]["InstanceId"])


def _actions_only(policy: Any) -> dict[str, Any]:
    """Return a policy as moto can judge it: by action. It knows neither resources nor conditions on them."""
    document = json.loads(policy) if isinstance(policy, str) else policy
    return {
        "Version": document["Version"],
        "Statement": [{"Effect": s["Effect"], "Action": s["Action"], "Resource": "*"} for s in document["Statement"]],
    }


def _iam(account: str) -> Any:
    from moto.iam.models import iam_backends

    return iam_backends[account]["aws"]
