"""The log as pages: filters, windows by key, one line, the check; only for whoever may see it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from audit import selectors, targets
from audit.models import AuditEntry, AuditSeal
from audit.services import record_alone, seal_organization
from core import clock
from core.actor import Actor
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ClientOf = Callable[[Persona], Client]
NOW = datetime(2026, 3, 18, 12, tzinfo=UTC)


def note(
    persona: Persona, label: str = "page", minutes_ago: float = 0, actor: Actor | None = None, **fields: object
) -> AuditEntry:
    with clock.at(NOW - timedelta(minutes=minutes_ago)):
        return record_alone(
            **{
                "actor": actor or persona.actor,
                "verb": "access.denied",
                "target_kind": "page",
                "target_id": label,
                "target_label": label,
                **fields,
            }
        )


def labels(page: str) -> list[str]:
    return re.findall(r'<td class="hide-s dim clip" title="[^"]*">([^<]+)</td>', page)


def read(client: Client, query: str = "") -> str:
    with clock.at(NOW):
        response = client.get(f"/audit/{query}")
    assert response.status_code == 200
    return response.content.decode()


def test_newest_first_and_windows_by_key(alice: Persona, client_of: ClientOf) -> None:
    for n in range(120):
        note(alice, f"page {n}", minutes_ago=(120 - n) // 2)  # two lines share each moment
    client = client_of(alice)
    seen: list[str] = []
    query = ""
    for _ in range(3):
        page = read(client, query)
        seen += labels(page)
        older = re.search(r'rel="next" href="([^"]+)"', page)
        query = older[1].replace("&amp;", "&") if older else ""
    assert seen == [f"page {n}" for n in reversed(range(120))]
    assert query == ""
    newer = re.search(r'rel="prev" href="([^"]+)"', page)
    assert newer is not None
    assert labels(read(client, newer[1].replace("&amp;", "&"))) == seen[50:100]


def test_a_window_does_not_shift_when_lines_are_added(alice: Persona, client_of: ClientOf) -> None:
    for n in range(60):
        note(alice, f"page {n}", minutes_ago=100 - n)
    client = client_of(alice)
    older = re.search(r'rel="next" href="([^"]+)"', read(client))
    assert older is not None
    before = labels(read(client, older[1].replace("&amp;", "&")))
    note(alice, "new")
    assert labels(read(client, older[1].replace("&amp;", "&"))) == before == [f"page {n}" for n in reversed(range(10))]


@pytest.mark.parametrize(
    ("query", "wanted"),
    [
        ("", ["machine", "mine", "old", "broken"]),
        ("?q=mine", ["mine"]),
        ("?q=alice+old", ["old"]),
        ("?who=people", ["mine", "old", "broken"]),
        ("?who=system", ["machine"]),
        ("?who=programs", []),
        ("?outcome=failed", ["broken"]),
        ("?verb=access.denied", ["machine", "mine", "old", "broken"]),
        ("?verb=user.signed_in", []),
        ("?target=page:mine", ["mine"]),
        ("?since=24h", ["machine", "mine"]),
        ("?since=7d", ["machine", "mine", "old"]),
        ("?start=2026-03-18&end=2026-03-18", ["machine", "mine"]),
        ("?end=2026-03-17", ["old", "broken"]),
        (
            "?start=nonsense&since=ever&before=x.y&after=&outcome=lucky&operation=7",
            ["machine", "mine", "old", "broken"],
        ),
    ],
)
def test_filters(alice: Persona, client_of: ClientOf, query: str, wanted: list[str]) -> None:
    note(alice, "broken", minutes_ago=60 * 24 * 20, outcome="failed")
    note(alice, "old", minutes_ago=60 * 24 * 3)
    note(alice, "mine", minutes_ago=5)
    note(alice, "machine", minutes_ago=1, actor=Actor.system("reconciler", alice.organization.id))
    assert labels(read(client_of(alice), query)) == wanted


def test_only_one_actor_and_one_operation(alice: Persona, olga: Persona, client_of: ClientOf) -> None:
    operation = uuid4()
    note(alice, "mine", operation_id=operation)
    note(olga, "hers")
    client = client_of(alice)
    assert labels(read(client, f"?actor={olga.user.pk}")) == ["hers"]
    assert labels(read(client, f"?operation={operation}")) == ["mine"]


def test_pills_count_what_the_other_filters_leave(alice: Persona, client_of: ClientOf) -> None:
    for n in range(3):
        note(alice, f"page {n}", outcome="failed")
    note(alice, "other", actor=Actor.system("reconciler", alice.organization.id))
    flat = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", read(client_of(alice), "?outcome=failed")))
    assert "All 4" in flat
    assert "People 3" in flat
    assert "Failed 3" in flat
    assert "3 that match, of 4 lines" in flat


def test_one_line_says_everything(alice: Persona, client_of: ClientOf, htmx: dict[str, str]) -> None:
    operation = uuid4()
    actor = Actor(
        alice.actor.kind,
        alice.actor.id,
        "Alice",
        alice.organization.id,
        alice.actor.permissions,
        "req-12345678",
        "203.0.113.24",
        "Firefox",
    )
    entry = note(
        alice,
        "hall",
        actor=actor,
        changes={"name": ["hall", "attic"], "tags": [None, {"a": 1}], "password": ["old secret", "new secret"]},
        operation_id=operation,
        detail="because <b>",
    )
    seal_organization(organization_id=alice.organization.id)
    seal = AuditSeal.objects.for_org(alice.organization).get(line=1)
    page = client_of(alice).get(f"/audit/{entry.id}/").content.decode()
    for words in (
        "203.0.113.24",
        "Firefox",
        "req-12345678",
        seal.hash,
        seal.prev_hash,
        f"/operations/{operation}/",
        "because &lt;b&gt;",
        "<del>hall</del>",
        "<ins>attic</ins>",
        "{&quot;a&quot;: 1}",
    ):
        assert words in page
    assert "secret" not in page.replace("password", "")
    part = client_of(alice).get(f"/audit/{entry.id}/", headers=htmx).content.decode()
    assert "drawer-head" in part
    assert "<html" not in part


def test_another_organization_is_not_there(alice: Persona, mallory: Persona, client_of: ClientOf) -> None:
    entry = note(alice, "larkspur secret")
    client = client_of(mallory)
    assert client.get(f"/audit/{entry.id}/").status_code == 404
    assert "larkspur" not in read(client)
    assert "larkspur" not in read(client, f"?actor={alice.user.pk}")


@pytest.mark.parametrize("path", ["/audit/", "/audit/check", "/audit/{id}/"])
def test_a_viewer_and_an_operator_are_refused(
    alice: Persona, bob: Persona, olga: Persona, client_of: ClientOf, path: str
) -> None:
    entry = note(alice)
    for persona in (bob, olga):
        assert client_of(persona).get(path.format(id=entry.id)).status_code == 403


def test_the_check_says_what_it_found(alice: Persona, client_of: ClientOf, htmx: dict[str, str]) -> None:
    from tests.audit.test_append_only import tamper

    for n in range(4):
        note(alice, f"page {n}")
    client = client_of(alice)
    assert "The chain is unbroken" in client.get("/audit/check").content.decode()
    assert "4 lines" in client.get("/audit/check", headers=htmx).content.decode()
    tamper("UPDATE audit_auditentry SET detail = 'x' WHERE target_label = 'page 2'")
    assert "The chain is broken at line 3" in client.get("/audit/check").content.decode()
    assert 'role="alert"' in client.get("/audit/check", headers=htmx).content.decode()


def test_empty_and_no_match(alice: Persona, client_of: ClientOf) -> None:
    assert "Nothing has happened here yet" in read(client_of(alice))
    note(alice)
    assert "Nothing matches" in read(client_of(alice), "?q=zebra")


def test_queries_do_not_grow(alice: Persona, client_of: ClientOf) -> None:
    client = client_of(alice)

    def count() -> int:
        with CaptureQueriesContext(connection) as captured:
            read(client)
        return len(captured)

    note(alice)
    read(client)
    with_one = count()
    note(alice)
    note(alice)
    assert count() == with_one


def test_what_was_done_reads_without_its_target() -> None:
    from audit import verbs

    assert verbs.deed("access.denied") == "Was refused"
    assert verbs.deed("user.signed_in") == "Signed in"
    assert verbs.deed("node.woke") == "Woke"
    assert verbs.deed("operation.requested") == "Requested work"


def test_cursors_survive_a_round_trip(alice: Persona) -> None:
    entry = note(alice)
    for millisecond in range(0, 1000, 7):  # none of which a float holds exactly
        entry.at = NOW + timedelta(milliseconds=millisecond)
        assert selectors._parsed(selectors.cursor_of(entry)) == (entry.at, entry.seq)
    for nonsense in ("", ".", "1", "a.b", "1.2.3", "99999999999999999999999.1"):
        assert selectors._parsed(nonsense) is None


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("larkspur-7", ["node-larkspur-7"]),
        ("SPUR-7", ["node-larkspur-7"]),
        ("alice larkspur", ["node-larkspur-7", "node-larkspur-8"]),
        ('quo"te OR x', []),
        ('"', ['odd " name * NEAR(']),
        ('odd "', ['odd " name * NEAR(']),
        ("NEAR(", ['odd " name * NEAR(']),
        ("100%_", []),
        ("access.denied k-9", ["straße k-9"]),
        ("STRASSE", []),
        ("straße", ["straße k-9"]),
        ("7", ["node-larkspur-7"]),
    ],
)
def test_text_search_finds_pieces_of_words(alice: Persona, words: str, wanted: list[str]) -> None:
    for label in ("straße k-9", 'odd " name * NEAR(', "node-larkspur-8", "node-larkspur-7"):
        record_alone(actor=alice.actor, verb="access.denied", target_label=label)
    found = selectors.window(actor=alice.actor, filters=selectors.Filters(search=words))
    assert [e.target_label for e in found.entries] == wanted


def test_a_purged_line_is_not_found_and_search_is_indexed(alice: Persona) -> None:
    from tests.audit.test_append_only import tamper

    for n in range(3):
        note(alice, f"larkspur {n}")
    tamper("DELETE FROM audit_auditentry WHERE target_label = 'larkspur 1'")
    found = selectors.window(actor=alice.actor, filters=selectors.Filters(search="larkspur"))
    assert [e.target_label for e in found.entries] == ["larkspur 2", "larkspur 0"]
    with connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute("SELECT count(*) FROM audit_words WHERE audit_words MATCH 'larkspur'")
            assert cursor.fetchone()[0] == 2
        else:
            cursor.execute("SELECT count(*) FROM pg_indexes WHERE indexname = 'audit_entry_words'")
            assert cursor.fetchone()[0] == 1


@pytest.mark.parametrize("kind", [*targets._PAGES, *targets._ROOMS])
def test_each_kind_of_target_has_its_page(kind: str) -> None:
    assert targets.url_of(kind, "0b6f5d2e-9c3e-4d8e-8a0b-6a1d1a5f1a10").startswith("/")
    assert targets.url_of(kind, "") == ("" if kind in targets._PAGES else reverse(targets._ROOMS[kind]))
