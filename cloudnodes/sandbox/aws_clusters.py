"""EKS in the sandbox: clusters whose API server may be one's own, and IAM's judgement of what an identity may do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from accounts.providers.aws_template import SCALE_ACTIONS

if TYPE_CHECKING:
    from cloudnodes.sandbox.aws_layer import Call
    from cloudnodes.sandbox.aws_seed import Sandbox

ROLE = "arn:aws:iam::{account}:role/eks"
# account, region, name, version, tags, node groups: (name, types, capacity, min, desired, max)
SEED: tuple[tuple[str, str, str, str, dict[str, str], tuple[tuple[str, list[str], str, int, int, int], ...]], ...] = (
    (
        "111111111111",
        "us-east-1",
        "lark-prod",
        "1.33",
        {"Team": "Compositing", "Owner": "mira@northlight.example", "Environment": "production"},
        (("general", ["m5.xlarge"], "ON_DEMAND", 2, 3, 6), ("burst", ["c5.2xlarge"], "SPOT", 0, 2, 12)),
    ),
    (
        "111111111111",
        "us-east-1",
        "lark-dev",
        "1.31",
        {"Team": "Pipeline", "Owner": "jo@northlight.example", "Environment": "dev"},
        (("default", ["m5.large"], "ON_DEMAND", 1, 2, 4),),
    ),
    (
        "111111111111",
        "us-west-2",
        "farm-west",
        "1.34",
        {"Team": "Lighting", "Environment": "staging"},
        (("render", ["c5.2xlarge", "c6i.2xlarge"], "SPOT", 0, 4, 40),),
    ),
)


def seed(sandbox: Sandbox) -> list[str]:
    """Make the demo's clusters that are not there yet; returns their names."""
    made = []
    for account, region, name, version, tags, groups in SEED:
        eks = sandbox.client("eks", account, region=region)
        if name in eks.list_clusters()["clusters"]:
            continue
        make(sandbox, account_id=account, region=region, name=name, version=version, tags=tags)
        for group, types, capacity, least, desired, most in groups:
            eks.create_nodegroup(
                clusterName=name,
                nodegroupName=group,
                nodeRole=ROLE.format(account=account),
                subnets=["subnet-0a1b2c3d"],
                instanceTypes=types,
                capacityType=capacity,
                scalingConfig={"minSize": least, "desiredSize": desired, "maxSize": most},
            )
        made.append(name)
    return made


def check_signatures_of_eks() -> None:
    """Moto takes the parameters of a REST address for its body when it computes a signature; put that right for EKS."""
    from moto.iam.access_control import IAMRequestBase

    original = IAMRequestBase._create_aws_request

    def create(self: Any) -> Any:
        if self._service == "eks":
            self._data = {}
        return original(self)

    IAMRequestBase._create_aws_request = create  # type: ignore[method-assign]


def make(
    sandbox: Sandbox,
    *,
    account_id: str,
    region: str,
    name: str,
    version: str = "1.33",
    tags: dict[str, str] | None = None,
    endpoint: str = "",
    ca: str = "",
    status: str = "",
) -> dict[str, str]:
    """A cluster; `endpoint` and `ca` (base64 of PEM) put an API server of one's own behind it."""
    from moto.eks.models import eks_backends

    answer = sandbox.client("eks", account_id, region=region).create_cluster(
        name=name,
        version=version,
        roleArn=ROLE.format(account=account_id),
        resourcesVpcConfig={"subnetIds": ["subnet-0a1b2c3d"]},
        tags=tags or {},
    )
    cluster = eks_backends[account_id][region].clusters[name]
    cluster.endpoint = endpoint or cluster.endpoint
    cluster.certificate_authority = {"data": ca} if ca else cluster.certificate_authority
    cluster.status = status or cluster.status
    return {"arn": str(answer["cluster"]["arn"])}


def simulate(call: Call) -> Any:
    """SimulatePrincipalPolicy. Who asks, asks about itself.

    By action, since moto knows neither resources nor conditions; except that what our stack gives for some resources
    is not allowed for `*`, as IAM judges.
    """
    from moto.iam.access_control import IAMPolicy, PermissionResult

    from cloudnodes.sandbox.aws_layer import api_error, respond

    arn = call.form.get("PolicySourceArn", "")
    match = re.fullmatch(r"arn:aws:iam::(\d{12}):(user|role)/(?:.*/)?([^/]+)", arn)
    if not match or match[1] != call.account:
        return api_error("iam", "NoSuchEntity", f"{arn} does not exist", 404)
    named = call.form.get("ResourceArns.member.1", "*") != "*"
    policies = [IAMPolicy(text) for text in _policies(match[1], match[2], match[3])]

    def judge(action: str) -> str:
        results = {policy.is_action_permitted(action) for policy in policies}
        if PermissionResult.DENIED in results:
            return "explicitDeny"
        if action in SCALE_ACTIONS and not named:
            return "implicitDeny"
        return "allowed" if PermissionResult.PERMITTED in results else "implicitDeny"

    if judge("iam:SimulatePrincipalPolicy") != "allowed":
        words = f"User: {arn} is not authorized to perform: iam:SimulatePrincipalPolicy on resource: {arn}"
        return api_error("iam", "AccessDenied", words, 403)
    rows = [
        f"<member><EvalActionName>{escape(action)}</EvalActionName><EvalResourceName>*</EvalResourceName>"
        f"<EvalDecision>{judge(action)}</EvalDecision></member>"
        for action in call.numbered(r"ActionNames\.member")
    ]
    return respond(
        '<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><SimulatePrincipalPolicyResult>'
        f"<IsTruncated>false</IsTruncated><EvaluationResults>{''.join(rows)}</EvaluationResults>"
        "</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>",
        kind="text/xml",
    )


def _policies(account: str, kind: str, name: str) -> list[str]:
    from moto.iam.models import iam_backends

    backend = iam_backends[account]["aws"]
    if kind == "role":
        return [str(text) for text in backend.get_role(name).policies.values()]
    names = backend.list_user_policies(name)
    return [str(backend.get_user_policy(name, one)["policy_document"]) for one in names]
