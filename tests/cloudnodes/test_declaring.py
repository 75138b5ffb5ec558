"""Nodes without a tag, declared by hand: found, missed, refused; and what changed outside is told."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from io import BytesIO

import pytest
from django.test import Client

from accounts.models import CloudAccount
from audit.models import AuditEntry
from cloudnodes import declaring, drift, services
from cloudnodes.declaring import Declaration
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from core.errors import InvalidInput
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, nodes_of
from tests.personas import Persona

pytestmark = pytest.mark.django_db
S = InstanceState
UNTAGGED = {"node_type": "", "gpu_tier": "", "hourly_cost": None, "labels_source": "none"}


def test_a_declared_node_is_one_like_any_other(
    account: CloudAccount, cloud: MemoryCloud, alice: Persona, time: Time
) -> None:
    cloud.add("i-9", S.RUNNING, **UNTAGGED)
    rows = [Declaration(account.name, "i-9", "FLUX Dev", hourly_cost=Decimal("1.5"))]
    assert declaring.declare(actor=alice.actor, rows=rows) == 1
    time.go(2)
    services.poll_account(account_id=account.id)
    (node,) = nodes_of(account)
    assert (node.observed_state, node.managed, node.gpu_tier, node.hourly_cost) == (
        "awake",
        True,
        "a10g",
        Decimal("1.5"),
    )
    calls = cloud.calls["describe"]
    time.go(5)
    assert services.poll_account(account_id=account.id) == 0
    assert cloud.calls["describe"] == calls + 1
    assert services.request_stop(actor=alice.actor, node_id=node.id).kind == "node.stop"
    assert declaring.declare(actor=alice.actor, rows=rows) == 0
    assert AuditEntry.objects.for_org(alice.organization).filter(verb="node.declared").count() == 1


def test_what_the_provider_does_not_know_is_said_to_be_missing(
    account: CloudAccount, cloud: MemoryCloud, alice: Persona, time: Time, client_of: Callable[[Persona], Client]
) -> None:
    declaring.declare(actor=alice.actor, rows=[Declaration(str(account.id), "i-typo", "FLUX Dev")])
    for _ in range(3):
        time.go(8)
        services.poll_account(account_id=account.id)
    page = client_of(alice).get("/cloud-nodes/declare").content.decode()
    assert "the provider does not know it" in page
    assert [row.what for row in drift.list_drift(actor=alice.actor) if row.now == "gone"] == ["Never found"]
    (node,) = nodes_of(account)
    assert client_of(alice).post(f"/cloud-nodes/{node.id}/withdraw").status_code == 302
    assert "i-typo" not in client_of(alice).get("/cloud-nodes/declare").content.decode()


@pytest.mark.parametrize("between", [";", "\t"])
def test_a_spreadsheets_own_file_is_read(between: str) -> None:
    text = "account,provider_id,node_type,hourly_cost\nStudio,i-1,FLUX Dev,1.5\n".replace(",", between)
    (row,) = declaring.read_csv(text.splitlines())
    assert (row.account, row.provider_id, row.node_type, row.hourly_cost) == (
        "Studio",
        "i-1",
        "FLUX Dev",
        Decimal("1.5"),
    )


def test_without_its_declaration_it_is_left_alone(
    account: CloudAccount, cloud: MemoryCloud, alice: Persona, time: Time
) -> None:
    cloud.add("i-9", S.RUNNING, **UNTAGGED)
    declaring.declare(actor=alice.actor, rows=[Declaration(account.name, "i-9", "FLUX Dev")])
    time.go(2)
    services.poll_account(account_id=account.id)
    assert declaring.withdraw(actor=alice.actor, node_id=nodes_of(account)[0].id)
    time.go(2)
    services.poll_account(account_id=account.id)
    assert nodes_of(account)[0].observed_state == "unmanaged"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "missing: account, provider_id, node_type"),
        ("account,provider_id,node_type\n,i-1,\n", "line 2"),
        ("account,provider_id,node_type,hourly_cost\nx,i-1,FLUX,much\n", "not an amount"),
        ("account,provider_id,node_type\nx,i-1,...\n", "no letter"),
        ("account,provider_id,node_type\nNowhere,i-1,FLUX\n", "not a connected account"),
        ('account,provider_id,node_type\nx,"i-1,FLUX\n', "CSV"),
        ("account,provider_id,node_type\n", "declares nothing"),
        ("account,provider_id,node_type\nx,i-1,FLUX\nX,i-1,SDXL\n", "the same node as line 2"),
        ("\x00\xff", "missing"),
    ],
)
def test_a_wrong_file_declares_nothing(
    account: CloudAccount,
    cloud: MemoryCloud,
    alice: Persona,
    client_of: Callable[[Persona], Client],
    text: str,
    said: str,
) -> None:
    file = BytesIO(text.encode())
    file.name = "nodes.csv"
    answer = client_of(alice).post("/cloud-nodes/declare", {"upload": "1", "file": file})
    assert answer.status_code == 422
    assert said in answer.content.decode().replace("&#x27;", "'")
    assert not CloudNode.objects.for_org(alice.organization).exists()


def test_one_wrong_line_of_many_declares_none(account: CloudAccount, alice: Persona) -> None:
    rows = [Declaration(account.name, "i-1", "FLUX"), Declaration("Nowhere", "i-2", "FLUX")]
    with pytest.raises(InvalidInput):
        declaring.declare(actor=alice.actor, rows=rows)
    assert not CloudNode.objects.for_org(alice.organization).exists()


def test_changes_from_outside_are_listed(
    cloud: MemoryCloud,
    scan: Callable,
    account: CloudAccount,
    time: Time,
    alice: Persona,
    client_of: Callable[[Persona], Client],
) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    scan()
    time.go(5)
    cloud.put("i-1", S.RUNNING, state_reason="User initiated")
    del cloud.machines["i-2"]
    for _ in range(3):
        services.poll_account(account_id=account.id)
        time.go(8)
    page = client_of(alice).get("/cloud-nodes/drift").content.decode()
    assert "Started outside" in page
    assert "Deleted outside" in page
    assert "User initiated" in page
