"""Which of the rights that adding and removing nodes takes an AWS identity lacks, asked of IAM beforehand."""

from __future__ import annotations

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_rights import allowed, identity
from policies.enforcing.enums import MARK

# Actions, the kind of resource they are asked for, and what holds of it. The id stands for any of its kind.
ASKED: tuple[tuple[tuple[str, ...], str, dict[str, str]], ...] = (
    (("ec2:CreateFleet",), "ec2:{place}:fleet/fleet-0", {}),
    (("ec2:RunInstances",), "ec2:{place}:instance/i-0", {}),
    (("ec2:CreateTags",), "ec2:{place}:instance/i-0", {"ec2:CreateAction": "CreateFleet"}),
    (("ec2:TerminateInstances",), "ec2:{place}:instance/i-0", {f"aws:ResourceTag/{MARK}": "any"}),
    (
        ("autoscaling:AttachInstances", "autoscaling:TerminateInstanceInAutoScalingGroup"),
        "autoscaling:{place}:autoScalingGroup:0:autoScalingGroupName/any",
        {},
    ),
)


def missing_rights(connection: AwsConnection, *, region: str) -> list[str]:
    """The rights that are not there, by name. `iam:PassRole` is not asked: which role the nodes carry is not known here.
    Raises ProviderError, PermissionDenied when IAM may not be asked."""
    arn = identity(connection)
    partition, account = arn.split(":")[1], arn.split(":")[4]
    missing: list[str] = []
    for actions, resource, context in ASKED:
        named = f"arn:{partition}:{resource.format(place=f'{region}:{account}')}"
        granted = allowed(connection, arn, actions, resource=named, context=context)
        missing += [action for action in actions if action not in granted]
    return missing
