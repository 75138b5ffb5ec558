"""The grid, the dialog, a node's page and their buttons, with and without scripts."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from decimal import Decimal
from urllib.parse import urlencode

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils.html import strip_tags

from accounts.models import CloudAccount
from cloudnodes import selectors, services
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.providers.base import InstanceState, Scaling
from core.errors import QuotaExceeded
from core.providers import AuthenticationFailed, CapacityUnavailable, Unreachable
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.cloudnodes.test_observe import fresh
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState
GRID, DIALOG = "/cloud-nodes/", "/cloud-nodes/dialog"


def text(html: bytes) -> str:
    return re.sub(r"\s+", " ", strip_tags(html.decode()))


@pytest.fixture
def page(client_of: Callable[[Persona], Client], olga: Persona) -> Client:
    return client_of(olga)


def test_the_grid_says_what_is(cloud: MemoryCloud, scan: Callable, page: Client) -> None:
    cloud.add("i-1", S.RUNNING)
    cloud.add("i-2", node_type="SDXL Turbo", hourly_cost=None, instance_type="x9.large")
    scan()
    answer = page.get(GRID)
    said = text(answer.content)
    assert answer.status_code == 200
    assert "<title>Cloud Nodes · Curfew</title>" in answer.content.decode()
    assert "1 awake, 1 asleep" in said
    assert "About 60 s to wake, not yet measured" in said
    assert "$1.20/h while on, idle or not; 1 without a price" in said
    assert "1 of 2 off" in said
    assert "AWSus-east-1" in said.replace(" us-east-1", "us-east-1")
    assert said.count("Not offered: Cloud Run has L4 and RTX PRO 6000 GPUs only") == 2  # A10G at Google
    assert said.count("No node") == 2  # nothing was made at Azure, which could have it
    assert "no price" in said
    assert "GPU Tier Selection" not in said  # one tier: no choice


def test_learned_median_replaces_the_guess(
    node: CloudNode, cloud: MemoryCloud, page: Client, olga: Persona, worker: Worker
) -> None:
    cloud.boot = 41.0
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.until_done()
    said = text(page.get(GRID).content)
    assert re.search(r"About 4[1-4] s to wake", said)
    assert "not yet measured" not in said


def test_tiers_are_a_choice_only_when_there_is_one(cloud: MemoryCloud, scan: Callable, page: Client) -> None:
    cloud.add("i-1", gpu_tier="t4")
    cloud.add("i-2", gpu_tier="a10g", node_type="Wan Video")
    cloud.add("i-3", gpu_tier="a100")
    scan()
    answer = page.get(GRID).content.decode()
    radios = re.findall(r'<input type="radio"[^>]*value="(\w+)"( checked)?', answer)
    assert radios == [("t4", ""), ("a10g", " checked"), ("a100", "")]
    assert "Recommended" in answer
    assert re.findall(r'<th scope="row"[^>]*>([^<]+)', answer) == ["Wan Video"]
    other = page.get(GRID, {"tier": "t4"}).content.decode()
    assert re.findall(r'<th scope="row"[^>]*>([^<]+)', other) == ["FLUX Dev"]
    assert page.get(GRID, {"tier": "nonsense"}).content.decode().count(" checked>") == 1


def test_dialog_and_plain_link(node: CloudNode, page: Client, htmx: dict) -> None:
    part = page.get(DIALOG, headers=htmx).content.decode()
    assert "<html" not in part
    assert "<h2>Cloud Nodes - Container Status</h2>" in part
    for button in ("Refresh Status", "Close", "Apply Changes"):
        assert button in part
    whole = page.get(DIALOG).content.decode()
    assert "<title>Cloud Nodes - Container Status · Curfew</title>" in whole
    assert "<h1>Cloud Nodes - Container Status</h1>" in whole
    assert 'href="/cloud-nodes/dialog"' in page.get("/costs/").content.decode()  # from every page
    inner = page.get(DIALOG, {"part": "grid"}, headers=htmx).content.decode()
    assert inner.strip().startswith('<div id="nodes-dialog"')
    assert "dialog-head" not in inner


def test_fragment_of_the_page(node: CloudNode, page: Client, htmx: dict) -> None:
    answer = page.get(GRID, headers=htmx)
    assert answer.content.decode().strip().startswith('<div id="nodes-page"')
    assert "HX-Request" in answer["Vary"]


def shown(*nodes: CloudNode) -> list[str]:
    return [f"{n.id}:{'on' if fresh(n).is_on else 'off'}" for n in nodes]


def test_apply_with_scripts(cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict, worker: Worker) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    one, two = scan()
    answer = page.post(
        "/cloud-nodes/apply",
        {"shown": shown(one, two), "on": [str(one.id)], "step": "apply", "tier": "a10g"},
        headers=htmx,
    )
    assert answer.status_code == 200
    assert answer.content.decode().strip().startswith('<div id="nodes-page"')
    assert "2 nodes on the way" in answer["HX-Trigger"]
    assert {o.kind: o.resource_id for o in Operation.objects.all_orgs()} == {"node.start": one.id, "node.stop": two.id}
    said = text(answer.content)
    assert "Waking" in said
    assert "Falling asleep" in said
    assert 'data-ring-left="60" data-ring-total="60"' in answer.content.decode()
    assert "data-waking" in answer.content.decode()
    worker.until_done()
    assert (fresh(one).observed_state, fresh(two).observed_state) == ("awake", "asleep")


def test_apply_without_scripts_shows_what_it_would_do_first(cloud: MemoryCloud, scan: Callable, page: Client) -> None:
    cloud.add("i-1", hourly_cost=Decimal(2))
    cloud.add("i-2", S.RUNNING)
    one, two = scan()
    review = page.post("/cloud-nodes/apply", {"shown": shown(one, two), "on": [str(one.id)], "step": "review"})
    said = text(review.content)
    assert "Now $1.20/h, after $2.00/h: costs $0.80/h more, a potential." in said
    assert not Operation.objects.all_orgs().exists()
    fields = re.findall(r'<input type="hidden" name="(wake|sleep)" value="([^"]+)"', review.content.decode())
    assert fields == [("wake", str(one.id)), ("sleep", str(two.id))]
    done = page.post("/cloud-nodes/apply", {"wake": [str(one.id)], "sleep": [str(two.id)], "confirmed": "yes"})
    assert (done.status_code, done["Location"]) == (302, GRID)
    assert Operation.objects.all_orgs().count() == 2
    assert "2 nodes on the way" in text(page.get(GRID).content)


def test_an_old_page_undoes_nothing(cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict, time: Time) -> None:
    """Shown off, left off; meanwhile somebody woke it: it stays awake."""
    cloud.add("i-1")
    (node,) = scan()
    old = shown(node)
    cloud.put("i-1", S.RUNNING)
    scan()
    answer = page.post("/cloud-nodes/apply", {"shown": old, "step": "apply"}, headers=htmx)
    assert "Nothing was changed" in answer["HX-Trigger"]
    assert not Operation.objects.all_orgs().exists()


@pytest.mark.parametrize("data", [{"shown": "x:on"}, {"shown": "junk"}, {"on": "'; drop"}, {"wake": "1"}])
def test_forged_forms_are_refused(node: CloudNode, page: Client, data: dict) -> None:
    assert page.post("/cloud-nodes/apply", data).status_code in (400, 422)


def test_start_all_asks_and_does_what_it_showed(cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    cloud.add("i-3", S.RUNNING, scaling=Scaling.TO_ZERO)
    one, *_ = scan()
    asked = page.get("/cloud-nodes/all", {"do": "start", "tier": "a10g"}, headers=htmx)
    said = text(asked.content)
    assert "Wake 1 node?" in said
    assert "is awake already" in said
    assert "scales to zero by itself" in said
    cloud.add("i-4")
    scan()  # appeared after the question
    done = page.post(
        "/cloud-nodes/all", {"do": "start", "tier": "a10g", "wake": [str(one.id)], "confirmed": "yes"}, headers=htmx
    )
    assert done.status_code == 204
    assert '"dialog:close"' in done["HX-Trigger"]
    assert [o.resource_id for o in Operation.objects.all_orgs()] == [one.id]


def test_many_refused_for_one_reason_are_told_it_once(
    cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        cloud.add(f"i-{number}")
    nodes = scan()

    def refuse(**_: object) -> None:
        raise QuotaExceeded("The budget is used up.", code="budget_exceeded")

    monkeypatch.setattr("costs.budgets.require_room", refuse)
    form = {
        "do": "start",
        "tier": nodes[0].gpu_tier,
        "place": "page",
        "confirmed": "yes",
        "wake": [n.id for n in nodes],
    }
    said = json.loads(page.post("/cloud-nodes/all", form, headers=htmx)["HX-Trigger"])["toast"]
    assert (said["text"], said["detail"]) == ("Nothing was changed, 3 left as they are", "The budget is used up.")


def test_stop_all_from_the_dialog_returns_to_it(cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict) -> None:
    cloud.add("i-1", S.RUNNING)
    (node,) = scan()
    asked = text(page.get("/cloud-nodes/all", {"do": "stop", "place": "dialog"}, headers=htmx).content)
    assert "Put 1 node to sleep?" in asked
    assert "saves $1.20" in asked
    done = page.post(
        "/cloud-nodes/all", {"do": "stop", "place": "dialog", "sleep": [str(node.id)], "confirmed": "yes"}, headers=htmx
    )
    assert "Cloud Nodes - Container Status" in done.content.decode()
    assert Operation.objects.all_orgs().get().kind == "node.stop"


def test_trouble_shows_cause_and_retry(
    node: CloudNode, cloud: MemoryCloud, page: Client, htmx: dict, olga: Persona, worker: Worker
) -> None:
    cloud.fail["start"] = [CapacityUnavailable("The racks are full.")]
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.until_done()
    shown_grid = page.get(GRID).content.decode()
    assert "Trouble" in text(shown_grid.encode())
    assert "No capacity" in shown_grid
    # the whole cause and the next step, not only in a tooltip
    said = text(shown_grid.encode())
    assert "FLUX Dev on AWS. The racks are full. Try again in a few minutes" in said
    assert f'formaction="/cloud-nodes/{node.id}/wake"' in shown_grid
    again = page.post(f"/cloud-nodes/{node.id}/wake", {"place": "page"}, headers=htmx)
    assert "Waking it" in again["HX-Trigger"]
    worker.until_done()
    assert fresh(node).observed_state == "awake"


def test_authentication_error_leads_to_the_credentials(
    node: CloudNode, cloud: MemoryCloud, page: Client, time: Time, account: CloudAccount
) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(60)
    services.poll_account(account_id=account.id)
    cloud.fail["describe"] = [AuthenticationFailed("AWS did not accept the credentials.", code="keys_of_its_own_kind")]
    time.go(60)
    services.poll_account(account_id=account.id)
    shown_grid = page.get(GRID).content.decode()
    assert f'href="/settings/cloud-integrations/{account.id}"' in shown_grid
    assert "did not accept the credentials" in shown_grid
    assert "Lost" in text(shown_grid.encode())


def test_a_start_refused_for_its_credentials_leads_to_them(
    node: CloudNode, cloud: MemoryCloud, page: Client, olga: Persona, worker: Worker
) -> None:
    cloud.fail["start"] = [AuthenticationFailed(code="keys_of_its_own_kind")]
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.until_done()
    assert fresh(node).error_code == "credentials_refused"
    link = f'href="/settings/cloud-integrations/{node.account_id}"'
    grid = page.get(GRID).content.decode()
    assert link in grid
    assert "Retry waking FLUX Dev on AWS" in grid  # for when they are right again
    assert link in page.get(f"/cloud-nodes/{node.id}/").content.decode()


def test_network_error_offers_retry(
    node: CloudNode, cloud: MemoryCloud, page: Client, time: Time, htmx: dict, account: CloudAccount
) -> None:
    cloud.fail["describe"] = [Unreachable()]
    time.go(60)
    services.poll_account(account_id=account.id)
    shown_grid = page.get(GRID).content.decode()
    assert "cannot be reached" in shown_grid
    assert 'action="/cloud-nodes/refresh"' in shown_grid
    AccountPoll.objects.all_orgs().update(polled_at=None)
    answer = page.post("/cloud-nodes/refresh", {"place": "page"}, headers=htmx)
    assert "Asked the providers again" in answer["HX-Trigger"]
    assert AccountPoll.objects.all_orgs().get().held_until is not None


def test_still_billing_always_on_and_unmanaged(
    account: CloudAccount, cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict
) -> None:
    account.provider = "azure"
    account.save(update_fields=["provider"])
    cloud.add("vm-1", S.STOPPED_BILLING)
    cloud.add("svc", S.RUNNING, scaling=Scaling.TO_ZERO, node_type="Whisper")
    nodes = {n.provider_id: n for n in scan()}
    shown_grid = page.get(GRID)
    said = text(shown_grid.content)
    assert "Still billing" in said
    assert "Always on" in said
    assert "scales to zero" in said
    assert 'role="switch"' not in shown_grid.content.decode()
    page.post(f"/cloud-nodes/{nodes['vm-1'].id}/sleep", {"place": "page"}, headers=htmx)
    assert Operation.objects.all_orgs().get().kind == "node.stop"


def test_cancel_from_the_cell(
    node: CloudNode, page: Client, htmx: dict, olga: Persona, worker: Worker, cloud: MemoryCloud
) -> None:
    cloud.boot = 60.0
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.once()
    answer = page.post(f"/cloud-nodes/{node.id}/cancel", {"place": "page"}, headers=htmx)
    assert "Cancelled" in answer["HX-Trigger"]
    worker.until_done()
    assert fresh(node).observed_state == "asleep"
    assert (
        "Nothing is under way"
        in page.post(f"/cloud-nodes/{node.id}/cancel", {"place": "page"}, headers=htmx)["HX-Trigger"]
    )


def test_conflict_is_told_not_thrown(node: CloudNode, page: Client, olga: Persona, htmx: dict) -> None:
    services.request_start(actor=olga.actor, node_id=node.id)
    answer = page.post(f"/cloud-nodes/{node.id}/sleep", {"place": "page"}, headers=htmx)
    assert (answer.status_code, "is being woken" in answer["HX-Trigger"]) == (200, True)


def test_detail_tells_why_and_what_it_cost(
    node: CloudNode, cloud: MemoryCloud, page: Client, olga: Persona, worker: Worker, time: Time
) -> None:
    services.request_start(actor=olga.actor, node_id=node.id, reason="dailies")
    worker.until_done()
    time.go(3600)
    said = text(page.get(f"/cloud-nodes/{node.id}/").content)
    assert "Woken by Olga: dailies" in said
    assert "label on the instance" in said
    assert "Wake cloud node" in said
    assert re.search(r"Spent ?\$1\.20", said)
    CloudNode.objects.all_orgs().update(gone_at=time.now)
    assert "Gone" in text(page.get(f"/cloud-nodes/{node.id}/").content)


def test_detail_buttons(node: CloudNode, page: Client, htmx: dict) -> None:
    done = page.post(f"/cloud-nodes/{node.id}/wake", {"place": "detail"})
    assert done["Location"] == f"/cloud-nodes/{node.id}/"
    part = page.post(f"/cloud-nodes/{node.id}/cancel", {"place": "detail"}, headers=htmx)
    assert part.content.decode().strip().startswith('<div id="node"')


def test_viewer_looks_and_may_not_switch(node: CloudNode, client_of: Callable, bob: Persona, htmx: dict) -> None:
    viewer = client_of(bob)
    shown_grid = viewer.get(GRID).content.decode()
    assert "Your role may look, not switch" in shown_grid
    assert "data-apply" not in shown_grid
    assert "/cloud-nodes/all?do=start" not in shown_grid
    for path, data in (
        (f"/cloud-nodes/{node.id}/wake", {}),
        (f"/cloud-nodes/{node.id}/sleep", {}),
        (f"/cloud-nodes/{node.id}/dismiss", {}),
        ("/cloud-nodes/apply", {"wake": str(node.id)}),
        ("/cloud-nodes/all", {"do": "start", "wake": str(node.id)}),
    ):
        assert viewer.post(path, data).status_code == 403, path
    assert not Operation.objects.all_orgs().exists()


def test_other_organizations_see_nothing(node: CloudNode, client_of: Callable, mallory: Persona, htmx: dict) -> None:
    stranger = client_of(mallory)
    for path in (GRID, DIALOG):
        assert "FLUX" not in stranger.get(path).content.decode()
    assert stranger.get(f"/cloud-nodes/{node.id}/").status_code == 404
    for verb in ("wake", "sleep", "cancel", "look", "dismiss"):
        assert stranger.post(f"/cloud-nodes/{node.id}/{verb}").status_code == 404, verb
    assert stranger.post("/cloud-nodes/apply", {"wake": str(node.id)}).status_code == 404
    assert not Operation.objects.all_orgs().exists()


def test_strangers_are_sent_to_log_in(node: CloudNode, client: Client) -> None:
    for path in (GRID, DIALOG, f"/cloud-nodes/{node.id}/"):
        assert client.get(path)["Location"] == f"/login?{urlencode({'next': path})}"
    assert client.post("/cloud-nodes/apply").status_code == 302


def test_nothing_connected_and_nothing_found(page: Client, olga: Persona) -> None:
    assert "No cloud account is connected" in text(page.get(GRID).content)
    make_account(olga.organization, number="444455556666")
    assert "No cloud nodes yet" in text(page.get(GRID).content)


def test_many_types_are_paged_and_searched(
    cloud: MemoryCloud, scan: Callable, page: Client, htmx: dict, olga: Persona, worker: Worker
) -> None:
    for number in range(60):
        cloud.add(f"i-{number:02}", node_type=f"Type {number:02}")
    last = scan()[-1]

    def names(**asked: object) -> list[str]:
        return re.findall(r'<th scope="row"[^>]*>([^<]+)', page.get(GRID, asked, headers=htmx).content.decode())

    assert names() == [f"Type {n:02}" for n in range(50)]
    assert names(page=2) == names(page=99) == [f"Type {n:02}" for n in range(50, 60)]
    assert names(q="type 3") == [f"Type {n:02}" for n in (3, 13, 23, *range(30, 40), 43, 53)]
    assert names(q="i-59") == ["Type 59"]
    assert names(q="nothing") == []
    assert "is called so" in page.get(GRID, {"q": "nothing"}).content.decode()
    assert names(page="x") == names()
    # a trouble on the second page is told on the first
    cloud.fail["start"] = [CapacityUnavailable("The racks are full.")]
    services.request_start(actor=olga.actor, node_id=last.id)
    worker.until_done()
    assert "Type 59 on AWS" in text(page.get(GRID).content)
    # an action on the second page stays there
    answer = page.post(f"/cloud-nodes/{last.id}/wake", {"place": "page", "page": "2", "tier": "a10g"}, headers=htmx)
    assert "Type 59" in answer.content.decode()
    assert "page=2" in answer.content.decode()


@pytest.mark.parametrize("path", [GRID, DIALOG])
def test_query_budget(cloud: MemoryCloud, scan: Callable, page: Client, path: str, htmx: dict, olga: Persona) -> None:
    """The same number with one row and with three, and an operation under way makes no difference."""
    cloud.add("i-1")
    scan()
    counts = []
    for _ in range(2):
        page.get(path, headers=htmx)
        with CaptureQueriesContext(connection) as seen:
            assert page.get(path, headers=htmx).status_code == 200
        counts.append(len(seen))
        cloud.add("i-2", S.RUNNING, node_type="SDXL Turbo")
        cloud.add("i-3", node_type="Wan Video", instance_type="g5.2xlarge")
        scan()
        services.request_start(actor=olga.actor, node_id=scan()[2].id)
    assert counts[0] == counts[1]
    with CaptureQueriesContext(connection) as seen:
        selectors.get_grid(actor=olga.actor)
    # all nodes, accounts, operations, durations, polls, burn rate, the nodes shown
    assert len(seen) == 7


def test_query_budget_of_a_node(node: CloudNode, olga: Persona) -> None:
    with CaptureQueriesContext(connection) as seen:
        selectors.get_detail(actor=olga.actor, node_id=node.id)
    # node, operation, intervals, history, poll, learned wake, learned sleep; for the estimate its nodes, their learned wake,
    # runs, intervals
    assert len(seen) == 11
