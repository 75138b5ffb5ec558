"""The CloudFormation stack: valid, least privilege, and it works in the sandbox."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from accounts.providers.aws_template import (
    BOUGHT_TAG,
    NODE_ACTIONS,
    READ_ACTIONS,
    SCALE_ACTIONS,
    SWITCH_ACTIONS,
    TRAIL_ACTIONS,
    cloudformation_template,
    launch_url,
)
from core.providers import InvalidRequest
from policies.enforcing.enums import MARK

pytestmark = pytest.mark.integration


def template(**changes: Any) -> dict[str, Any]:
    return dict(yaml.safe_load(cloudformation_template("curfew-7d1f0c2b9a", "900000000001", **changes)))


@pytest.mark.parametrize("scope", ["tagged", "all"])
def test_cfn_lint_finds_nothing(scope: str) -> None:
    from cfnlint.api import ManualArgs, lint

    regions = ManualArgs(regions=["us-east-1", "eu-central-1", "us-gov-west-1", "cn-north-1"])
    text = cloudformation_template("curfew-7d1f0c2b9a", "900000000001", switch_scope=scope)
    assert [str(m) for m in lint(text, config=regions)] == []
    # cfn-lint must be able to object, or the line above proves nothing.
    assert lint(text.replace("AssumeRolePolicyDocument", "AssumeRolePolicyDocumnt"), config=regions)


def test_only_curfew_with_its_external_id_gets_in() -> None:
    (statement,) = template()["Resources"]["CurfewRole"]["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Condition"] == {"StringEquals": {"sts:ExternalId": {"Ref": "ExternalId"}}}
    assert statement["Principal"] == {"AWS": {"Fn::Sub": "arn:${AWS::Partition}:iam::${PlatformAccountId}:root"}}
    assert statement["Action"] == "sts:AssumeRole"
    assert template()["Parameters"]["ExternalId"]["Default"] == "curfew-7d1f0c2b9a"
    assert template()["Parameters"]["PlatformAccountId"]["Default"] == "900000000001"


def test_least_privilege() -> None:
    actions = {*READ_ACTIONS, *SWITCH_ACTIONS, *SCALE_ACTIONS}
    assert not [a for a in actions if "*" in a]
    assert not [
        a for a in actions if a.partition(":")[0] in {"s3", "secretsmanager", "ssm", "kms", "sts", "organizations"}
    ]
    assert {a for a in actions if a.startswith("iam:")} == {"iam:ListAccountAliases"}
    assert not [
        a for a in actions if any(w in a for w in ("Create", "Delete", "Terminate", "Run", "Put", "Attach", "Pass"))
    ]
    assert all(a.partition(":")[2].startswith(("Describe", "Get", "List")) for a in READ_ACTIONS)
    statements = template()["Resources"]["CurfewRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    assert [s["Sid"] for s in statements if s["Resource"] == "*"] == ["See"], "only reading is allowed everywhere"
    switch = next(s for s in statements if s["Sid"] == "SwitchInstances")
    assert switch["Condition"]["Fn::If"][:2] == ["OnlyTagged", {"Null": {"aws:ResourceTag/curfew:node-type": "false"}}]


def test_the_log_of_the_account_is_opened_only_on_request() -> None:
    stack = template()
    assert stack["Parameters"]["TellWho"]["Default"] == "no"
    assert stack["Conditions"]["MayTellWho"] == {"Fn::Equals": [{"Ref": "TellWho"}, "yes"]}
    (extra,) = [r for r in stack["Resources"].values() if r.get("Condition") == "MayTellWho"]
    (statement,) = extra["Properties"]["PolicyDocument"]["Statement"]
    assert statement["Action"] == list(TRAIL_ACTIONS)
    assert "cloudtrail:" not in json.dumps(stack["Resources"]["CurfewRole"])


def test_making_nodes_is_off_until_their_roles_are_named() -> None:
    stack = template()
    assert stack["Parameters"]["NodeRoles"]["Default"] == ""
    empty = {"Fn::Equals": [{"Fn::Join": ["", {"Ref": "NodeRoles"}]}, ""]}
    assert stack["Conditions"]["MayMakeNodes"] == {"Fn::Not": [empty]}
    (name,) = [n for n, r in stack["Resources"].items() if r.get("Condition") == "MayMakeNodes"]
    statements = {s["Sid"]: s for s in stack["Resources"][name]["Properties"]["PolicyDocument"]["Statement"]}
    assert {action for s in statements.values() for action in s["Action"]} == set(NODE_ACTIONS)
    always = json.dumps(stack["Resources"]["CurfewRole"])
    assert not [action for action in NODE_ACTIONS if action in always]
    passed = statements["LetNodesCarryTheirRole"]
    assert passed["Resource"] == {"Ref": "NodeRoles"}
    assert "ec2.amazonaws.com" in passed["Condition"]["StringEquals"]["iam:PassedToService"]
    assert statements["EndWhatWasBought"]["Condition"] == {"Null": {f"aws:ResourceTag/{MARK}": "false"}}
    assert BOUGHT_TAG == MARK
    assert [s for s in statements if statements[s]["Resource"] == "*"] == ["BuyNodes"]


@pytest.mark.parametrize(
    ("external_id", "account"),
    [("x", "900000000001"), ("has blanks", "900000000001"), ("a\nb", "900000000001"), ("good-id", "9000")],
)
def test_values_that_would_break_out_are_refused(external_id: str, account: str) -> None:
    with pytest.raises(InvalidRequest):
        cloudformation_template(external_id, account)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-central-1", "console.aws.amazon.com"),
        ("cn-north-1", "console.amazonaws.cn"),
        ("us-gov-west-1", "console.amazonaws-us-gov.com"),
    ],
)
def test_the_launch_link_fills_in_the_stack(region: str, host: str) -> None:
    source = "https://curfew-public.s3.amazonaws.com/stack.yaml?v=1&x=2"
    url = launch_url(template_url=source, region=region, external_id="a+b=c", platform_account_id="900000000001")
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parse_qs(parts.query)) == ("https", host, {"region": [region]})
    action, _, query = parts.fragment.partition("?")
    assert action == "/stacks/quickcreate"
    assert parse_qs(query) == {
        "templateURL": [source],
        "stackName": ["curfew-access"],
        "param_ExternalId": ["a+b=c"],
        "param_PlatformAccountId": ["900000000001"],
        "param_RoleName": ["CurfewAccess"],
    }


def test_parameters_of_the_link_are_those_of_the_stack() -> None:
    url = launch_url(
        template_url="https://x.example/t", region="us-east-1", external_id="ab", platform_account_id="900000000001"
    )
    given = {
        k.removeprefix("param_") for k in parse_qs(urlsplit(url).fragment.partition("?")[2]) if k.startswith("param_")
    }
    assert given <= set(template()["Parameters"])
    assert json.dumps(template())
