"""The grid that is made once for many viewers: never another's, never an older one, never with somebody's token."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import Membership
from cloudnodes import selectors, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState
from core import fragments
from costs import services as costs
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import nodes_of
from tests.personas import Persona, make_account, make_person

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
GRID, METER = "/cloud-nodes/", "/costs/meter"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here things are shared, for longer than any of these tests takes."""
    monkeypatch.setattr("core.fragments.KEEP_SECONDS", 600.0)
    fragments.clear()


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who had the grid made, in order."""
    calls: list[str] = []
    original = selectors.get_grid

    def get_grid(*, actor: Any, **asked: Any) -> selectors.Grid:
        calls.append(actor.label)
        return original(actor=actor, **asked)

    monkeypatch.setattr("cloudnodes.selectors.get_grid", get_grid)
    return calls


def body(client: Client, htmx: dict[str, str], url: str = GRID) -> str:
    answer = client.get(url, headers=htmx)
    assert answer.status_code == 200
    return answer.content.decode()


def ids_in(html: str) -> set[str]:
    return set(re.findall(r'id="page-node-([0-9a-f-]{36})"', html))


def test_one_rendering_serves_all_who_have_the_same_rights_and_nobody_else(
    node: CloudNode, alice: Persona, bob: Persona, mallory: Persona, client_of: Callable, htmx: dict, made: list[str]
) -> None:
    theirs = make_account(mallory.organization, "aws", "555500001111")
    foreign_cloud = MemoryCloud()
    foreign_cloud.add("i-foreign")
    services.sync_discovered(account=theirs, instances=foreign_cloud.discover(), at=node.observed_at)
    foreign = nodes_of(theirs)[0]
    twin = make_person("ada", alice.organization, "owner")
    first, second, viewer, other = (body(client_of(who), htmx) for who in (alice, twin, bob, mallory))
    assert made == [alice.user.display_name, bob.user.display_name, mallory.user.display_name]
    assert TOKEN.sub("", first) == TOKEN.sub("", second)
    assert ids_in(first) == ids_in(viewer) == {str(node.id)}
    assert ids_in(other) == {str(foreign.id)}
    assert 'role="switch"' in first
    assert "disabled" not in first
    assert "Your role may look, not switch." in viewer
    assert "Your role may look" not in second


def test_each_viewer_gets_tokens_that_work_for_them_alone(
    node: CloudNode, alice: Persona, client_of: Callable, htmx: dict
) -> None:
    twin = make_person("ada", alice.organization, "owner")
    answers = []
    for who in (alice, twin):
        client = Client(enforce_csrf_checks=True)
        client.cookies = client_of(who).cookies
        token = TOKEN.findall(body(client, htmx))[0]
        own = client.post("/cloud-nodes/refresh", {"csrfmiddlewaretoken": token}, headers=htmx)
        answers.append((client, token, own.status_code))
    (hers, her_token, one), (_, twin_token, two) = answers
    assert (one, two) == (200, 200)
    assert her_token != twin_token
    assert hers.post("/cloud-nodes/refresh", {"csrfmiddlewaretoken": twin_token}, headers=htmx).status_code == 403


def test_every_change_is_seen_at_once(
    node: CloudNode,
    cloud: MemoryCloud,
    scan: Callable,
    alice: Persona,
    client_of: Callable,
    htmx: dict,
    made: list[str],
) -> None:
    client = client_of(alice)
    assert 'id="page-words">1 asleep' in body(client, htmx)
    cloud.put(node.provider_id, InstanceState.RUNNING)
    scan()
    assert 'id="page-words">1 awake' in body(client, htmx)
    cloud.add("i-second", node_type="SDXL Turbo")
    scan()
    assert len(ids_in(body(client, htmx))) == 2
    before = body(client, htmx, METER)
    costs.set_budget(actor=alice.actor, amount=Decimal(77))
    assert "$77" in body(client, htmx, METER)
    assert "$77" not in before


def test_a_lost_right_takes_effect_on_the_next_request(
    node: CloudNode, alice: Persona, bob: Persona, client_of: Callable, htmx: dict
) -> None:
    client = client_of(bob)
    body(client, htmx)
    Membership.objects.for_org(alice.organization).filter(user=bob.user).delete()
    assert client.get(GRID, headers=htmx).status_code == 403
    client.logout()
    assert client.get(GRID, headers=htmx).status_code == 401


def test_a_known_answer_is_304_without_asking_for_nodes(
    node: CloudNode, alice: Persona, client_of: Callable, htmx: dict
) -> None:
    client = client_of(alice)
    etag = client.get(GRID, headers=htmx)["ETag"]
    with CaptureQueriesContext(connection) as queries:
        again = client.get(GRID, headers={**htmx, "If-None-Match": etag})
    assert (again.status_code, again.content) == (304, b"")
    assert len(queries) == 1  # the person with memberships
    assert client_of(alice).get(GRID, headers={**htmx, "If-None-Match": etag}).status_code == 200  # another browser


def test_only_the_rows_of_changed_nodes_are_sent(
    cloud: MemoryCloud, scan: Callable, alice: Persona, client_of: Callable, htmx: dict
) -> None:
    cloud.add("i-1", node_type="FLUX Dev")
    cloud.add("i-2", node_type="SDXL Turbo")
    _, two = scan()
    client = client_of(alice)
    whole = body(client, htmx)
    shape = re.search(r'data-shape="(\w+)"', whole)[1]  # type: ignore[index]
    cloud.put("i-2", InstanceState.RUNNING)
    scan()
    part = body(client, htmx, f"{GRID}?ids={two.id},{alice.organization.id}&shape={shape}")
    assert ids_in(part) == {str(two.id)}
    targets = re.findall(r'<hx-partial hx-target="#([\w-]+)"', part)
    assert targets == ["page-words", "page-summary", "page-rate", "page-checked", f"page-row-{two.node_type_id}"]
    assert all(f'id="{target}"' in whole for target in targets)
    assert "1 awake, 1 asleep" in part
    assert ids_in(body(client, htmx, f"{GRID}?ids={alice.organization.id}&shape={shape}")) == set()
    cloud.add("i-3", node_type="Wan Video")  # another layout: the whole grid is needed
    scan()
    moved = body(client, htmx, f"{GRID}?ids={two.id}&shape={shape}")
    assert len(ids_in(moved)) == 3
    assert "hx-partial" not in moved


def test_many_at_once_make_it_once() -> None:
    shelf, made = fragments.Shelf(), []

    def make() -> int:
        made.append(1)
        return len(made)

    with ThreadPoolExecutor(8) as pool:
        values = set(pool.map(lambda _: shelf.get("key", make), range(200)))
    assert values == {1}


def test_what_cannot_be_made_is_not_kept() -> None:
    shelf = fragments.Shelf(most=2)
    with pytest.raises(ZeroDivisionError):
        shelf.get("key", lambda: 1 / 0)
    assert shelf.get("key", lambda: 5) == 5
    assert [shelf.get(key, lambda key=key: key) for key in "abc"] == ["a", "b", "c"]
    assert shelf.get("a", lambda: "made again") == "made again"
