"""What is allowed to a cloud account's identity and what is missing, asked of IAM beforehand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accounts.providers.aws import AwsConnection
from accounts.providers.aws_rights import SIMULATE, allowed, identity
from core.providers import PermissionDenied

SEE_ACTIONS = (
    "eks:ListClusters",
    "eks:DescribeCluster",
    "eks:ListNodegroups",
    "eks:DescribeNodegroup",
    "autoscaling:DescribeAutoScalingGroups",
    "ec2:DescribeInstances",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeSpotPriceHistory",
    "pricing:GetProducts",
)
# Each is asked of a made-up resource of its kind: a right that is given for some resources is not one for "*".
SCALE_ACTIONS = {
    "eks:UpdateNodegroupConfig": "eks:us-east-1:{account}:nodegroup/any/any/any",
    "autoscaling:UpdateAutoScalingGroup": "autoscaling:us-east-1:{account}:autoScalingGroup:any:autoScalingGroupName/any",
}


@dataclass(frozen=True, slots=True)
class Right:
    """One permission: its name, what it is for, and whether it is there (None: nobody could say, `note` tells why)."""

    name: str
    purpose: str
    granted: bool | None
    note: str = ""


def cloud_rights(connection: AwsConnection) -> list[Right]:
    """Every AWS permission that clusters need, judged by IAM for the connected identity.

    When IAM itself may not be asked, that right is named as missing and the others are unknown. Raises ProviderError
    when AWS cannot be reached.
    """
    wanted = [*((a, "see clusters") for a in SEE_ACTIONS), *((a, "change node groups") for a in SCALE_ACTIONS)]
    try:
        granted = _granted(connection)
    except PermissionDenied as refused:
        note = "IAM may not be asked about it."
        return [Right(SIMULATE, "check permissions beforehand", False, refused.message)] + [
            Right(action, purpose, None, note) for action, purpose in wanted
        ]
    return [Right(action, purpose, action in granted) for action, purpose in wanted]


def _granted(connection: AwsConnection) -> set[str]:
    arn = identity(connection)
    partition, account = arn.split(":")[1], arn.split(":")[4]
    granted = allowed(connection, arn, SEE_ACTIONS)
    for action, kind in SCALE_ACTIONS.items():
        granted |= allowed(connection, arn, [action], resource=f"arn:{partition}:{kind.format(account=account)}")
    return granted


def missing(rights: Iterable[Right]) -> list[str]:
    """The names of what is not granted."""
    return [right.name for right in rights if right.granted is False]
