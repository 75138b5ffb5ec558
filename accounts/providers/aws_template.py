"""The CloudFormation stack that lets Curfew into an AWS account, and the link that launches it."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlencode

import yaml

from core.providers import InvalidRequest

DEFAULT_ROLE_NAME = "CurfewAccess"
DEFAULT_STACK_NAME = "curfew-access"
TAG_PREFIX = "curfew:"

READ_ACTIONS: tuple[str, ...] = (
    "autoscaling:DescribeAutoScalingGroups",
    "autoscaling:DescribeAutoScalingInstances",
    "autoscaling:DescribeScalingActivities",
    "autoscaling:DescribeScheduledActions",
    "cloudwatch:GetMetricData",
    "cloudwatch:GetMetricStatistics",
    "cloudwatch:ListMetrics",
    "ec2:DescribeAvailabilityZones",
    "ec2:DescribeImages",
    "ec2:DescribeInstanceStatus",
    "ec2:DescribeInstanceTypeOfferings",
    "ec2:DescribeInstanceTypes",
    "ec2:DescribeInstances",
    "ec2:DescribeLaunchTemplateVersions",
    "ec2:DescribeLaunchTemplates",
    "ec2:DescribeRegions",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSpotPriceHistory",
    "ec2:DescribeSubnets",
    "ec2:DescribeTags",
    "ec2:DescribeVolumes",
    "ec2:GetSpotPlacementScores",
    "eks:DescribeCluster",
    "eks:DescribeNodegroup",
    "eks:ListClusters",
    "eks:ListNodegroups",
    "iam:ListAccountAliases",
    "pricing:DescribeServices",
    "pricing:GetProducts",
    "servicequotas:GetServiceQuota",
    "servicequotas:ListServiceQuotas",
)
SWITCH_ACTIONS: tuple[str, ...] = ("ec2:StartInstances", "ec2:StopInstances")
SCALE_ACTIONS: tuple[str, ...] = (
    "autoscaling:ResumeProcesses",
    "autoscaling:SetDesiredCapacity",
    "autoscaling:SuspendProcesses",
    "autoscaling:UpdateAutoScalingGroup",
    "eks:UpdateNodegroupConfig",
)
# Only with NodeRoles: buying and ending nodes of clusters whose policy is enforced without Karpenter.
NODE_ACTIONS: tuple[str, ...] = (
    "autoscaling:AttachInstances",
    "autoscaling:TerminateInstanceInAutoScalingGroup",
    "ec2:CreateFleet",
    "ec2:CreateTags",
    "ec2:RunInstances",
    "ec2:TerminateInstances",
    "iam:PassRole",
)
# Only with TellWho: it opens the log of the whole account.
TRAIL_ACTIONS: tuple[str, ...] = ("cloudtrail:LookupEvents",)
BOUGHT_TAG = "curfew.dev/action"
# Asked about itself alone: which of the rights above are really there.
JUDGE_ACTION = "iam:SimulatePrincipalPolicy"


class _PlainDumper(yaml.SafeDumper):
    """CloudFormation refuses YAML anchors, so equal parts are written out each time."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def cloudformation_template(
    external_id: str, platform_account_id: str, *, role_name: str = DEFAULT_ROLE_NAME, switch_scope: str = "tagged"
) -> str:
    """Return the stack as YAML.

    It makes one role that only `platform_account_id` may assume and only with `external_id`. The
    role reads what Curfew shows; it starts and stops instances tagged `curfew:node-type`, or every
    instance when the person who launches it chooses SwitchScope `all`. It can neither create nor
    terminate machines, unless that person names the roles of the cluster's nodes in NodeRoles (empty
    at first); then only those roles may be passed on, and only machines that Curfew bought or that
    are in an Auto Scaling group may be ended. It never reads data, secrets or identities; who
    switched an instance without Curfew it can look up only where TellWho is `yes` (`no` at first).
    """
    if not re.fullmatch(r"[0-9]{12}", platform_account_id):
        raise InvalidRequest("The platform's AWS account number has exactly 12 digits.", code="bad_account_number")
    if not re.fullmatch(r"[\w+=,.@:/-]{2,1224}", external_id):
        raise InvalidRequest("An external ID has 2 to 1224 letters, digits and +=,.@:/-", code="bad_external_id")
    template: dict[str, Any] = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "Lets Curfew see compute in this account and switch it on and off. Deleting the stack ends the access.",
        "Parameters": _parameters(external_id, platform_account_id, role_name, switch_scope),
        "Conditions": {
            "OnlyTagged": {"Fn::Equals": [{"Ref": "SwitchScope"}, "tagged"]},
            "MayTellWho": {"Fn::Equals": [{"Ref": "TellWho"}, "yes"]},
            "MayMakeNodes": {"Fn::Not": [{"Fn::Equals": [{"Fn::Join": ["", {"Ref": "NodeRoles"}]}, ""]}]},
        },
        "Resources": {
            "CurfewRole": {"Type": "AWS::IAM::Role", "Properties": _role()},
            "NodeActions": {"Type": "AWS::IAM::RolePolicy", "Condition": "MayMakeNodes", "Properties": _node_actions()},
            "TrailActions": {
                "Type": "AWS::IAM::Policy",
                "Condition": "MayTellWho",
                "Properties": _trail_actions(),
            },
        },
        "Outputs": {
            "RoleArn": {"Description": "Paste this into Curfew.", "Value": {"Fn::GetAtt": ["CurfewRole", "Arn"]}},
            "ExternalId": {"Description": "The external ID that the role insists on.", "Value": {"Ref": "ExternalId"}},
        },
    }
    return yaml.dump(template, Dumper=_PlainDumper, sort_keys=False, width=120)


def launch_url(
    *,
    template_url: str,
    region: str,
    external_id: str,
    platform_account_id: str,
    role_name: str = DEFAULT_ROLE_NAME,
    stack_name: str = DEFAULT_STACK_NAME,
) -> str:
    """Return the AWS console link that opens the stack with its parameters filled in.

    `template_url` must be readable by AWS: for quick-create links that is an S3 address.
    """
    host = _console(region)
    query = urlencode(
        {
            "templateURL": template_url,
            "stackName": stack_name,
            "param_ExternalId": external_id,
            "param_PlatformAccountId": platform_account_id,
            "param_RoleName": role_name,
        },
        quote_via=quote,
    )
    return f"https://{host}/cloudformation/home?region={quote(region)}#/stacks/quickcreate?{query}"


def _console(region: str) -> str:
    if region.startswith("cn-"):
        return "console.amazonaws.cn"
    if region.startswith("us-gov-"):
        return "console.amazonaws-us-gov.com"
    return "console.aws.amazon.com"


def _parameters(external_id: str, platform_account_id: str, role_name: str, switch_scope: str) -> dict[str, Any]:
    if switch_scope not in {"tagged", "all"}:
        raise InvalidRequest("The switch scope is tagged or all.", code="bad_switch_scope")
    return {
        "ExternalId": {
            "Type": "String",
            "Default": external_id,
            "MinLength": 2,
            "MaxLength": 1224,
            "AllowedPattern": "[\\w+=,.@:/-]*",
            "Description": "Shown by Curfew; do not change it.",
        },
        "PlatformAccountId": {
            "Type": "String",
            "Default": platform_account_id,
            "AllowedPattern": "\\d{12}",
            "Description": "The AWS account that Curfew runs in.",
        },
        "RoleName": {
            "Type": "String",
            "Default": role_name,
            "AllowedPattern": "[\\w+=,.@-]{1,64}",
            "Description": "The name of the new role.",
        },
        "SwitchScope": {
            "Type": "String",
            "Default": switch_scope,
            "AllowedValues": ["tagged", "all"],
            "Description": "Which instances Curfew may start and stop - those tagged curfew:node-type, or all.",
        },
        "TellWho": {
            "Type": "String",
            "Default": "no",
            "AllowedValues": ["no", "yes"],
            "Description": (
                "yes - Curfew looks up in CloudTrail who started, stopped or deleted a node without it. CloudTrail cannot "
                "be opened in part - whoever may look may look up every event of the last 90 days."
            ),
        },
        "NodeRoles": {
            "Type": "CommaDelimitedList",
            "Default": "",
            "Description": (
                "Only if a policy is to add and remove nodes without Karpenter - the ARNs of the IAM roles that the "
                "clusters' nodes carry. Empty - Curfew can neither buy nor end machines."
            ),
        },
    }


def _role() -> dict[str, Any]:
    trust = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyCurfewWithItsExternalId",
                "Effect": "Allow",
                "Principal": {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${PlatformAccountId}:root"}},
                "Action": "sts:AssumeRole",
                "Condition": {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}},
            }
        ],
    }
    return {
        "RoleName": {"Ref": "RoleName"},
        "Description": "Curfew sees compute and switches it on and off",
        "MaxSessionDuration": 3600,
        "AssumeRolePolicyDocument": trust,
        "Policies": [{"PolicyName": "curfew", "PolicyDocument": {"Version": "2012-10-17", "Statement": _statements()}}],
        "Tags": [{"Key": "curfew:managed", "Value": "true"}],
    }


def _statements() -> list[dict[str, Any]]:
    instances = {"Fn::Sub": "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*"}
    groups = {
        "Fn::Sub": "arn:${AWS::Partition}:autoscaling:*:${AWS::AccountId}:autoScalingGroup:*:autoScalingGroupName/*"
    }
    nodegroups = {"Fn::Sub": "arn:${AWS::Partition}:eks:*:${AWS::AccountId}:nodegroup/*/*/*"}
    itself = {"Fn::Sub": "arn:${AWS::Partition}:iam::${AWS::AccountId}:role/${RoleName}"}
    only_tagged = {"Null": {"aws:ResourceTag/curfew:node-type": "false"}}
    return [
        {"Sid": "See", "Effect": "Allow", "Action": list(READ_ACTIONS), "Resource": "*"},
        {"Sid": "CheckOwnRights", "Effect": "Allow", "Action": [JUDGE_ACTION], "Resource": itself},
        {
            "Sid": "SwitchInstances",
            "Effect": "Allow",
            "Action": list(SWITCH_ACTIONS),
            "Resource": instances,
            "Condition": {"Fn::If": ["OnlyTagged", only_tagged, {"Ref": "AWS::NoValue"}]},
        },
        {"Sid": "ScaleGroups", "Effect": "Allow", "Action": list(SCALE_ACTIONS), "Resource": [groups, nodegroups]},
        {
            "Sid": "RememberStateInTags",
            "Effect": "Allow",
            "Action": ["autoscaling:CreateOrUpdateTags", "autoscaling:DeleteTags"],
            "Resource": groups,
            "Condition": {"ForAllValues:StringLike": {"aws:TagKeys": [f"{TAG_PREFIX}*"]}},
        },
    ]


def _node_actions() -> dict[str, Any]:
    instances = {"Fn::Sub": "arn:${AWS::Partition}:ec2:*:${AWS::AccountId}:instance/*"}
    groups = {
        "Fn::Sub": "arn:${AWS::Partition}:autoscaling:*:${AWS::AccountId}:autoScalingGroup:*:autoScalingGroupName/*"
    }
    statements = [
        {"Sid": "BuyNodes", "Effect": "Allow", "Action": ["ec2:CreateFleet", "ec2:RunInstances"], "Resource": "*"},
        {
            "Sid": "TagWhatIsBought",
            "Effect": "Allow",
            "Action": ["ec2:CreateTags"],
            "Resource": instances,
            "Condition": {"StringEquals": {"ec2:CreateAction": ["CreateFleet", "RunInstances"]}},
        },
        {
            "Sid": "LetNodesCarryTheirRole",
            "Effect": "Allow",
            "Action": ["iam:PassRole"],
            "Resource": {"Ref": "NodeRoles"},
            "Condition": {"StringEquals": {"iam:PassedToService": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]}},
        },
        {
            "Sid": "EndWhatWasBought",
            "Effect": "Allow",
            "Action": ["ec2:TerminateInstances"],
            "Resource": instances,
            "Condition": {"Null": {f"aws:ResourceTag/{BOUGHT_TAG}": "false"}},
        },
        {
            "Sid": "JoinAndLeaveGroups",
            "Effect": "Allow",
            "Action": ["autoscaling:AttachInstances", "autoscaling:TerminateInstanceInAutoScalingGroup"],
            "Resource": groups,
        },
    ]
    return {
        "PolicyName": "curfew-nodes",
        "RoleName": {"Ref": "CurfewRole"},
        "PolicyDocument": {"Version": "2012-10-17", "Statement": statements},
    }


def _trail_actions() -> dict[str, Any]:
    statement = {"Sid": "TellWho", "Effect": "Allow", "Action": list(TRAIL_ACTIONS), "Resource": "*"}
    return {
        "PolicyName": "curfew-trail",
        "Roles": [{"Ref": "CurfewRole"}],
        "PolicyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
