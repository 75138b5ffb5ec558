"""Operations as pages: list, detail, cancel, retry."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from core import clock
from operations import runner
from operations.models import Operation
from operations.registry import OperationFailed, RunContext
from tests.operations.conftest import Bell, ring
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]


def fail(context: RunContext) -> None:
    raise OperationFailed("The rope <broke>.", code="rope", next_step="Buy a rope.")


def names(page: str) -> list[str]:
    return re.findall(r"data-open>([^<]+)</a>", page)


def read(client: Client, query: str = "") -> str:
    response = client.get(f"/operations/{query}")
    assert response.status_code == 200
    return response.content.decode()


@pytest.fixture
def three(alice: Persona, bell: Bell) -> dict[str, Operation]:
    """A failed, a succeeded and a queued one, in this order of age."""
    made = {}
    for age, name in ((30, "failed"), (20, "succeeded"), (10, "queued")):
        with clock.at(clock.now() - timedelta(minutes=age)):
            made[name] = ring(alice, resource_label=f"bell {name}", reason="noon" if name == "queued" else "")
    bell.does = fail
    runner.run_operation(made["failed"].id)
    bell.does = lambda context: None
    runner.run_operation(made["succeeded"].id)
    return made


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ["queued", "succeeded", "failed"]),
        ("?sort=created", ["failed", "succeeded", "queued"]),
        ("?sort=resource", ["failed", "queued", "succeeded"]),
        ("?sort=-resource", ["succeeded", "queued", "failed"]),
        ("?status=active", ["queued"]),
        ("?status=failed", ["failed"]),
        ("?status=cancelled", []),
        ("?q=rope", ["failed"]),
        ("?q=noon", ["queued"]),
        ("?q=alice", ["queued", "succeeded", "failed"]),
        ("?kind=bell.ring", ["queued", "succeeded", "failed"]),
        ("?kind=other", []),
        ("?page_size=25&page=7&sort=magic&status=odd", ["queued", "succeeded", "failed"]),
    ],
)
def test_the_list(
    alice: Persona, client_of: ClientOf, three: dict[str, Operation], query: str, wanted: list[str]
) -> None:
    assert names(read(client_of(alice), query)) == [f"bell {name}" for name in wanted]


def test_pills_count(alice: Persona, client_of: ClientOf, three: dict[str, Operation]) -> None:
    flat = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", read(client_of(alice), "?status=failed")))
    for words in ("All 3", "Under way 1", "Failed 1", "Succeeded 1", "Cancelled 0"):
        assert words in flat


def test_empty_and_no_match(alice: Persona, client_of: ClientOf, bell: Bell) -> None:
    client = client_of(alice)
    assert "Nothing has been started yet" in read(client)
    ring(alice)
    assert "Nothing matches" in read(client, "?q=zebra")


def test_pages_of_fifty(alice: Persona, client_of: ClientOf, bell: Bell) -> None:
    for n in range(60):
        with clock.at(clock.now() + timedelta(seconds=n)):
            ring(alice, resource_label=f"bell {n}")
    client = client_of(alice)
    assert len(names(read(client))) == 50
    assert names(read(client, "?page=2")) == [f"bell {n}" for n in reversed(range(10))]
    assert len(names(read(client, "?page_size=100"))) == 60


def test_the_fragment_is_a_part(
    alice: Persona, client_of: ClientOf, three: dict[str, Operation], htmx: dict[str, str]
) -> None:
    part = client_of(alice).get("/operations/?status=active", headers=htmx).content.decode()
    assert part.lstrip().startswith('<section class="panel" id="operations-grid"')
    assert "<html" not in part
    assert "data-waking" in part


def test_queries_do_not_grow(alice: Persona, client_of: ClientOf, bell: Bell) -> None:
    client = client_of(alice)

    def count(path: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    operation = ring(alice)
    client.get("/operations/")
    with_one = count("/operations/"), count(f"/operations/{operation.id}/")
    for _ in range(2):
        ring(alice)
    assert (count("/operations/"), count(f"/operations/{operation.id}/")) == with_one


class TestDetail:
    def test_a_failure_says_why_and_what_next(
        self, alice: Persona, client_of: ClientOf, three: dict[str, Operation]
    ) -> None:
        page = read(client_of(alice), f"{three['failed'].id}/")
        assert "The rope &lt;broke&gt;." in page
        assert "Buy a rope." in page
        assert f"/operations/{three['failed'].id}/retry" in page
        assert "/cancel" not in page
        assert "In the audit log" in page
        assert page.count("Ring the bell") >= 2

    def test_one_under_way_counts_down_and_can_be_cancelled(
        self, alice: Persona, client_of: ClientOf, bell: Bell
    ) -> None:
        ends = runner.claim(ring(alice).id)
        assert ends is not None
        with clock.at(clock.now() + timedelta(seconds=40)):
            from operations import services

            services.finish(ends, "succeeded")
        operation = ring(alice)
        runner.claim(operation.id)
        page = read(client_of(alice), f"{operation.id}/")
        assert re.search(r'data-ring-left="(39|40)" data-ring-total="40"', page)
        assert f"/operations/{operation.id}/cancel" in page
        assert "live:operations" in page
        assert "it usually takes 40 s" in page

    def test_one_that_ended_asks_no_more(
        self, alice: Persona, client_of: ClientOf, three: dict[str, Operation]
    ) -> None:
        page = read(client_of(alice), f"{three['succeeded'].id}/")
        assert "data-waking" not in page
        assert "/cancel" not in page
        assert "/retry" not in page

    def test_a_viewer_reads_without_buttons_or_log(
        self, alice: Persona, bob: Persona, client_of: ClientOf, three: dict[str, Operation]
    ) -> None:
        page = read(client_of(bob), f"{three['failed'].id}/")
        assert "The rope" in page
        assert "/retry" not in page
        assert "In the audit log" not in page

    def test_another_organization(
        self, alice: Persona, mallory: Persona, client_of: ClientOf, three: dict[str, Operation]
    ) -> None:
        client = client_of(mallory)
        assert client.get(f"/operations/{three['failed'].id}/").status_code == 404
        assert names(read(client)) == []

    def test_what_does_not_exist(self, alice: Persona, client_of: ClientOf) -> None:
        assert client_of(alice).get(f"/operations/{uuid4()}/").status_code == 404


class TestActions:
    def test_cancel(self, alice: Persona, client_of: ClientOf, three: dict[str, Operation]) -> None:
        operation = three["queued"]
        response = client_of(alice).post(f"/operations/{operation.id}/cancel")
        assert (response.status_code, response["Location"]) == (302, f"/operations/{operation.id}/")
        operation.refresh_from_db()
        assert operation.status == "cancelled"

    def test_retry_leads_to_the_new_one(self, alice: Persona, client_of: ClientOf, three: dict[str, Operation]) -> None:
        response = client_of(alice).post(f"/operations/{three['failed'].id}/retry")
        new = Operation.objects.for_org(alice.organization).get(retry_of=three["failed"])
        assert response["Location"] == f"/operations/{new.id}/"
        page = read(client_of(alice), f"{new.id}/")
        assert f"/operations/{three['failed'].id}/" in page
        assert f"/operations/{new.id}/" in read(client_of(alice), f"{three['failed'].id}/")

    def test_retry_from_elsewhere_stays_there(
        self, alice: Persona, client_of: ClientOf, three: dict[str, Operation], htmx: dict[str, str]
    ) -> None:
        response = client_of(alice).post(f"/operations/{three['failed'].id}/retry", {"stay": "1"}, headers=htmx)
        assert response.status_code == 204
        assert json.loads(response["HX-Trigger"])["toast"]["text"] == "bell failed: trying again"

    @pytest.mark.parametrize("verb", ["cancel", "retry"])
    def test_rights(
        self,
        alice: Persona,
        bob: Persona,
        mallory: Persona,
        client_of: ClientOf,
        three: dict[str, Operation],
        verb: str,
    ) -> None:
        path = f"/operations/{three['failed'].id}/{verb}"
        assert client_of(bob).post(path).status_code == 403
        assert client_of(mallory).post(path).status_code == 404
        assert client_of(alice).get(path).status_code == 405

    def test_too_late_is_said(self, alice: Persona, client_of: ClientOf, three: dict[str, Operation]) -> None:
        response = client_of(alice).post(f"/operations/{three['succeeded'].id}/cancel")
        assert response.status_code == 409
        assert "It has already ended." in response.content.decode()
