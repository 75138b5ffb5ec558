"""What an AWS account lacks for a policy to act there: asked of IAM, named on the page that sets enforce."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client

from accounts import vault
from accounts.providers.aws_template import NODE_ACTIONS
from clusters.models import Cluster as Row
from core import encryption
from core.providers import PermissionDenied
from policies.enforcing import gateway
from policies.models import PolicyAssignment
from policies.providers import aws_rights
from tests.fakes.aws import SandboxAws
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
NUMBER = "111111111111"


def test_every_right_is_asked_but_the_one_whose_role_is_not_known() -> None:
    asked = {action for actions, _, _ in aws_rights.ASKED for action in actions}
    assert asked == set(NODE_ACTIONS) - {"iam:PassRole"}


def test_a_role_without_the_rights_is_told_apart_from_one_that_may_not_ask(alice: Persona, settings: Any) -> None:
    with SandboxAws(seed=True) as aws:
        settings.CURFEW_SANDBOX_AWS_ENDPOINT = aws.url
        account = make_account(alice.organization, number=NUMBER, is_sandbox=True)
        account.credentials = encryption.seal({"aws_account_id": NUMBER}, bound_to=account.seal_name)
        connection: Any = vault.connection_of(account)
        missing = aws_rights.missing_rights(connection, region="us-east-1")
        assert set(missing) == set(NODE_ACTIONS) - {"iam:PassRole"}
        aws.fail("SimulatePrincipalPolicy", code="AccessDenied", message="no", status=403)
        with pytest.raises(PermissionDenied):
            aws_rights.missing_rights(connection, region="us-east-1")


def told(persona: Persona, row: Row) -> str:
    client = Client()
    client.force_login(persona.user)
    answer = client.get(f"/policies/clusters/{row.id}/rights", headers={"HX-Request": "true"})
    assert answer.status_code == 200
    return answer.content.decode().strip()


def test_the_page_names_what_is_missing_where_the_policy_enforces(
    row: Row, apply_policy: Any, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "reaches", lambda cluster: True)
    monkeypatch.setattr(gateway, "missing_rights", lambda cluster: ["ec2:CreateFleet", "ec2:RunInstances"])
    link = apply_policy("recommend")
    assert told(alice, row) == "", "it is not asked while nothing would be done"
    PolicyAssignment.objects.all_orgs().update(mode="enforce")
    client = Client()
    client.force_login(alice.user)
    page = client.get(f"/policies/{link.policy_id}/").content.decode()
    assert f'hx-get="/policies/clusters/{row.id}/rights"' in page
    words = told(alice, row)
    assert "ec2:CreateFleet" in words
    assert "NodeRoles" in words

    def refuse(cluster: Row) -> list[str]:
        raise PermissionDenied("The connected identity lacks the permission iam:SimulatePrincipalPolicy.")

    monkeypatch.setattr(gateway, "missing_rights", refuse)
    assert "is not known" in told(alice, row)
    monkeypatch.setattr(gateway, "missing_rights", lambda cluster: [])
    assert told(alice, row) == ""
