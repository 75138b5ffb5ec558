"""Pages of clusters: with and without scripts, at a fixed number of queries, and the words that they must hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from clusters import services
from clusters.models import Cluster
from tests.clusters.conftest import Joined, Time
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
Join = Callable[..., Joined]


@pytest.fixture
def browser(client_of: Callable[[Persona], Client], alice: Persona) -> Client:
    return client_of(alice)


def _queries(browser: Client, url: str) -> int:
    browser.get(url)
    with CaptureQueriesContext(connection) as seen:
        assert browser.get(url).status_code == 200
    return len(seen)


def test_the_registry_costs_the_same_for_one_and_three(join: Join, time: Time, browser: Client) -> None:
    join("one").report()
    one = _queries(browser, "/clusters/"), _queries(browser, "/clusters/overview")
    for name in ("two", "three"):
        join(name).report()
    assert (_queries(browser, "/clusters/"), _queries(browser, "/clusters/overview")) == one


@pytest.mark.parametrize("tab", ["overview", "nodes", "workloads", "compliance"])
def test_each_tab_costs_the_same_for_a_small_and_a_larger_cluster(
    join: Join, time: Time, browser: Client, prices: None, tab: str
) -> None:
    small, large = join("small", nodes=1, pods=2), join("large", nodes=9, pods=90)
    counts = []
    for joined in (small, large):
        joined.report()
        counts.append(_queries(browser, f"/clusters/{joined.id}/?tab={tab}"))
    assert counts[0] == counts[1]


def test_the_registry_lists_searches_and_filters(
    join: Join, time: Time, browser: Client, htmx: dict, prices: None
) -> None:
    join("lark-prod", environment="prod", tags={"team": "compositing"}).report()
    join("lark-dev", environment="dev")
    page = browser.get("/clusters/").content.decode()
    assert "lark-prod" in page
    assert "lark-dev" in page
    assert "Projected" in page
    assert "lark-dev" not in browser.get("/clusters/?search=compositing").content.decode()
    assert "lark-prod" not in browser.get("/clusters/?pill=dev").content.decode()
    part = browser.get("/clusters/", headers=htmx).content.decode()
    assert "<html" not in part
    assert 'id="clusters-grid"' in part


def test_the_heads_up_tells_lost_from_awake_and_what_is_urgent(join: Join, time: Time, browser: Client) -> None:
    one, _, _ = (join(name) for name in ("one", "two", "three"))
    one.report()
    time.go(60)
    services.mark_lost()
    text = " ".join(re.sub(r"<[^>]+>", " ", browser.get("/clusters/").content.decode()).split())
    assert "0 awake, 0 asleep" in text
    assert "1 cluster is lost" in text


def test_the_dashboard_sums_up_what_could_be_saved_and_names_the_stressed(
    join: Join, time: Time, browser: Client, prices: None
) -> None:
    steady, shaken = join("steady"), join("shaken")
    steady.report()
    for node in shaken.reporter.tables["nodes"].values():
        node["ready"] = False
    shaken.report()
    services.plan(cluster_id=steady.id)
    text = browser.get("/clusters/overview").content.decode()
    main = " ".join(re.sub(r"<[^>]+>", " ", text[text.index("<main") : text.index("</main>")]).split())
    for words in ("Perfect packing $", "Spot readiness", "% of pods", "nodes become", "shaken", "under stress"):
        assert words in main, words
    assert "steady" in main
    weak = main[main.index("Stability") : main.index("Fleet composition")]
    assert "steady" not in weak
    assert re.search(r"gauge--(orange|red)", browser.get(f"/clusters/{shaken.id}/").content.decode())
    assert "gauge--green" in browser.get(f"/clusters/{steady.id}/").content.decode()


def test_a_rows_menu_acts_on_that_cluster_and_a_viewers_only_reads(
    join: Join, time: Time, browser: Client, client_of: Callable[[Persona], Client], bob: Persona
) -> None:
    joined = join()
    joined.report()
    page = browser.get("/clusters/").content.decode()
    assert 'aria-label="Actions for lark-prod"' in page
    for act in ("sync", "maintenance"):
        assert f'form="row-act" formaction="/clusters/{joined.id}/{act}"' in page
    assert 'id="row-act"' in page
    seen = client_of(bob).get("/clusters/").content.decode()
    assert "formaction" not in seen
    assert f"/clusters/{joined.id}/disconnect" not in seen


def test_an_empty_registry_says_what_to_do(browser: Client) -> None:
    assert "No cluster is connected yet" in browser.get("/clusters/").content.decode()


def test_dashboard_is_read_only_and_every_dollar_is_labelled(
    join: Join, time: Time, browser: Client, prices: None
) -> None:
    joined = join()
    joined.report()
    time.go(3700)
    joined.send(joined.reporter.full())
    services.refigure(cluster_id=joined.id)
    text = browser.get("/clusters/overview").content.decode()
    main = text[text.index("<main") : text.index("</main>")]
    assert "<form" not in main
    assert "<button" not in main
    assert "$" in main
    assert "Projected" in main
    assert "Potential" in main


def test_buttons_work_without_scripts(join: Join, time: Time, browser: Client) -> None:
    joined = join()
    joined.report()
    assert browser.post(f"/clusters/{joined.id}/maintenance", {"on": "1"}).status_code == 302
    assert joined.row.maintenance_since is not None
    assert "every automated action is paused" in browser.get(f"/clusters/{joined.id}/").content.decode()
    assert browser.post(f"/clusters/{joined.id}/sync").status_code == 302
    assert joined.beat()[1]["sync_now"] is True
    assert joined.beat()[1]["sync_now"] is False


def test_the_wizard_shows_the_token_once_and_hears_the_first_beat(
    time: Time, browser: Client, client: Client, join: Join
) -> None:
    page = unescape(browser.post("/clusters/connect/agent", {"name": "fresh, one"}).content.decode())
    token = re.search(r"token=(cfa_[\w-]+)", page)
    address = re.search(r"kubectl apply -f \S+(/install/\S+\.yaml)", page)
    assert token
    assert address
    assert "clusterName=fresh\\, one" in page
    row = Cluster.objects.all_orgs().get()
    waiting = f"/clusters/{row.id}/waiting"
    assert "Listening" in browser.get(waiting).content.decode()
    manifest = client.get(address[1])
    assert manifest.status_code == 200
    assert "cfa_" in manifest.content.decode()
    assert token[1] not in manifest.content.decode()
    helper = join("helper")
    answer = client.post(
        "/api/agent/cluster/heartbeat",
        helper.reporter.beat(),
        content_type="application/json",
        headers={"Authorization": f"Agent {token[1]}"},
    )
    assert answer.status_code == 200
    assert "Success! 3 nodes discovered" in browser.get(waiting).content.decode()
    assert client.get(address[1]).status_code == 404
    assert token[1] not in browser.get(f"/clusters/{row.id}/").content.decode()


def test_a_lost_agent_gets_new_commands_and_the_old_token_ends(
    join: Join, time: Time, browser: Client, client: Client
) -> None:
    joined = join()
    joined.report()
    page = unescape(browser.post(f"/clusters/{joined.id}/reinstall").content.decode())
    token = re.search(r"token=(cfa_[\w-]+)", page)
    address = re.search(r"kubectl apply -f \S+(/install/\S+\.yaml)", page)
    assert token
    assert address
    answers = {}
    for name, text in (("old", joined.made.token), ("new", token[1])):
        answers[name] = client.post(
            "/api/agent/cluster/heartbeat",
            joined.reporter.beat(),
            content_type="application/json",
            headers={"Authorization": f"Agent {text}"},
        ).status_code
    assert answers == {"old": 401, "new": 200}
    assert joined.row.node_count == 3


def test_disconnecting_asks_for_the_name(join: Join, time: Time, browser: Client) -> None:
    joined = join()
    assert browser.post(f"/clusters/{joined.id}/disconnect", {"name": "wrong"}).status_code == 422
    assert browser.post(f"/clusters/{joined.id}/disconnect", {"name": "lark-prod"}).status_code == 302
    assert not Cluster.objects.all_orgs().exists()


def test_compare_marks_what_differs(join: Join, time: Time, browser: Client) -> None:
    one, two = join("one", nodes=1), join("two", nodes=5)
    one.report()
    two.report()
    text = browser.get(f"/clusters/compare?id={one.id}&id={two.id}").content.decode()
    assert re.search(r"Nodes <span[^>]*>differs", text)
    assert not re.search(r"Agent <span[^>]*>differs", text)
    assert browser.get(f"/clusters/compare?id={one.id}").status_code == 400
