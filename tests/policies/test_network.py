"""Security groups and subnets, asked of an AWS account over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from accounts.models import CloudAccount
from core import encryption
from core.providers import PermissionDenied
from policies import gateway
from tests.fakes.aws import SandboxAws
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
NUMBER = "111111111111"


@pytest.fixture(scope="module")
def aws() -> Iterator[SandboxAws]:
    with SandboxAws(seed=True) as server:
        yield server


@pytest.fixture
def account(aws: SandboxAws, alice: Persona, settings: Any) -> CloudAccount:
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = aws.url
    row = make_account(alice.organization, number=NUMBER, is_sandbox=True)
    row.credentials = encryption.seal({"aws_account_id": NUMBER}, bound_to=row.seal_name)
    row.save()
    return row


def test_the_slide_over_offers_what_the_account_has(account: CloudAccount, alice: Persona, client_of: Callable) -> None:
    there = gateway.open_network(account)
    groups, subnets = there.security_groups(), there.subnets()
    assert all(one.id.startswith("sg-") and one.vpc for one in groups)
    assert {one.zone for one in subnets} >= {"us-east-1a", "us-east-1b"}
    kept = groups[0].id
    text = (
        client_of(alice)
        .post(
            "/node-templates/network",
            {"account_id": str(account.id), "security_groups": [kept, "sg-0gone0"], "subnets": [subnets[0].id]},
        )
        .content.decode()
    )
    assert f'value="{kept}" checked' in text
    assert f'value="{subnets[0].id}" checked' in text
    assert "Not in this account and region, but kept: sg-0gone0" in text


def test_a_refused_account_says_why_and_ids_can_be_typed(
    account: CloudAccount, alice: Persona, client_of: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refusing:
        def security_groups(self) -> list:
            raise PermissionDenied("The connected identity lacks the permission ec2:DescribeSecurityGroups.")

    monkeypatch.setattr(gateway, "open_network", lambda account, region="": Refusing())
    text = client_of(alice).post("/node-templates/network", {"account_id": str(account.id)}).content.decode()
    assert "lacks the permission ec2:DescribeSecurityGroups" in text
    assert 'name="more_groups"' in text


def test_another_organization_cannot_ask_it(account: CloudAccount, mallory: Persona, client_of: Callable) -> None:
    answer = client_of(mallory).post("/node-templates/network", {"account_id": str(account.id)})
    assert answer.status_code == 404


def test_a_cloud_without_security_groups_says_so(alice: Persona, client_of: Callable) -> None:
    row = make_account(alice.organization, provider="gcp", number="project-1")
    text = client_of(alice).post("/node-templates/network", {"account_id": str(row.id)}).content.decode()
    assert "Security groups are read from AWS accounts only" in text
