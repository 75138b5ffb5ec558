"""The HTTP interface: fixed paths and shapes, rights, repeats, money."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from accounts.models import CloudAccount
from cloudnodes import selectors, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState, Scaling
from core.providers import QuotaExceeded
from costs import services as costs
from operations.models import Operation
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.cloudnodes.test_observe import fresh
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState
MOUNTS = ("/budgetguard/api", "/api", "/api/v1")


@pytest.fixture
def api(api_of: Callable[[Persona], APIClient], olga: Persona) -> APIClient:
    return api_of(olga)


@pytest.mark.parametrize("mount", MOUNTS)
@pytest.mark.parametrize("slash", ["", "/"])
def test_every_path_at_every_mount(node: CloudNode, api: APIClient, mount: str, slash: str) -> None:
    assert api.get(f"{mount}/cloud-nodes/status{slash}").status_code == 200
    assert api.get(f"{mount}/spend/today{slash}").status_code == 200
    for path, body, status in (
        ("cloud-nodes/start", {"provider": "aws", "instance_name": "flux-dev-i-1"}, 202),
        ("cloud-nodes/stop", {"provider": "aws", "instance_name": "flux-dev-i-1"}, 409),
        ("cloud-nodes/apply", {"on": ["flux-dev-i-1"]}, 202),
        ("cost-estimate", {"node_type": "FLUX Dev", "provider": "aws", "params": {}}, 200),
        ("cost-actual", {"workflow_id": "w1", "node_type": "FLUX Dev", "provider": "aws"}, 200),
    ):
        assert api.post(f"{mount}/{path}{slash}", body, format="json").status_code == status, path


def test_status_shape(cloud: MemoryCloud, scan: Callable, api: APIClient, time: Time) -> None:
    cloud.add("i-1", endpoint="http://10.0.0.1:8188")
    cloud.add("i-2", S.RUNNING, gpu_tier="t4", launched_at=time.now - timedelta(minutes=5))
    one, two = scan()
    answer = api.get("/budgetguard/api/cloud-nodes/status").json()
    assert answer == {
        "cloud_nodes": {
            "FLUX Dev": {
                "a10g": {
                    "aws": {
                        "id": str(one.id),
                        "instance_name": "flux-dev-i-1",
                        "provider_id": "i-1",
                        "endpoint": "http://10.0.0.1:8188",
                        "status": "stopped",
                        "region": "us-east-1",
                        "gpu_tier": "a10g",
                        "instance_type": "g5.xlarge",
                        "hourly_cost": "1.2000",
                        "currency": "USD",
                        "started_at": None,
                        "ready_at": None,
                        "observed_at": "2031-06-12T09:00:00.000Z",
                        "operation": None,
                        "error": None,
                        "scaling": "manual",
                        "still_billing": False,
                    }
                },
                "t4": {
                    "aws": {
                        "id": str(two.id),
                        "instance_name": "flux-dev-i-2",
                        "provider_id": "i-2",
                        "endpoint": "",
                        "status": "running",
                        "region": "us-east-1",
                        "gpu_tier": "t4",
                        "instance_type": "g5.xlarge",
                        "hourly_cost": "1.2000",
                        "currency": "USD",
                        "started_at": "2031-06-12T08:55:00.000Z",
                        "ready_at": "2031-06-12T08:55:00.000Z",
                        "observed_at": "2031-06-12T09:00:00.000Z",
                        "operation": None,
                        "error": None,
                        "scaling": "manual",
                        "still_billing": False,
                    }
                },
            }
        }
    }


def test_status_words(
    cloud: MemoryCloud, scan: Callable, api: APIClient, olga: Persona, worker: Worker, time: Time
) -> None:
    def word(name: str) -> str:
        return api.get("/api/cloud-nodes/status").json()["cloud_nodes"][name]["a10g"]["aws"]["status"]

    cloud.add("i-1", node_type="One")
    cloud.add("i-2", S.RUNNING, node_type="Two")
    cloud.add("i-3", S.RUNNING, node_type="Three", scaling=Scaling.TO_ZERO)
    cloud.add("i-4", S.STOPPED_BILLING, node_type="Four")
    cloud.add("i-5", S.UNKNOWN, node_type="Five")
    one, two, *_ = scan()
    assert [word(n) for n in ("One", "Two", "Three", "Four", "Five")] == [
        "stopped",
        "running",
        "running",
        "stopped",
        "lost",
    ]
    services.request_start(actor=olga.actor, node_id=one.id)
    services.request_stop(actor=olga.actor, node_id=two.id)
    assert [word(n) for n in ("One", "Two")] == ["starting", "stopping"]
    worker.until_done()
    assert [word(n) for n in ("One", "Two")] == ["running", "stopped"]
    cloud.fail["start"] = [QuotaExceeded("Four vCPUs at most.")]
    services.request_start(actor=olga.actor, node_id=two.id)
    worker.until_done()
    shape = api.get("/api/cloud-nodes/status").json()["cloud_nodes"]["Two"]["a10g"]["aws"]
    assert shape["status"] == "error"
    assert shape["error"] == {
        "code": "quota_exceeded",
        "message": "Four vCPUs at most.",
        "next_step": "Stop another machine of this kind, or ask the provider for a higher limit.",
    }


def test_two_nodes_in_one_place(cloud: MemoryCloud, scan: Callable, api: APIClient) -> None:
    cloud.add("i-1")
    cloud.add("i-2")
    scan()
    cell = api.get("/api/cloud-nodes/status").json()["cloud_nodes"]["FLUX Dev"]["a10g"]["aws"]
    assert (cell["instance_name"], [n["instance_name"] for n in cell["also"]]) == ("flux-dev-i-1", ["flux-dev-i-2"])


def test_start_is_accepted_with_its_operation(node: CloudNode, api: APIClient, worker: Worker) -> None:
    answer = api.post(
        "/budgetguard/api/cloud-nodes/start",
        {"provider": "aws", "instance_name": "flux-dev-i-1", "reason": "dailies"},
        format="json",
    )
    operation = Operation.objects.all_orgs().get()
    assert answer.status_code == 202
    assert answer["Location"] == f"/api/operations/{operation.id}"
    body = answer.json()["operation"]
    assert (body["id"], body["kind"], body["status"], body["reason"]) == (
        str(operation.id),
        "node.start",
        "queued",
        "dailies",
    )
    again = api.post(
        "/budgetguard/api/cloud-nodes/start", {"provider": "aws", "instance_name": "flux-dev-i-1"}, format="json"
    )
    assert (again.status_code, again.json()["operation"]["id"]) == (202, str(operation.id))
    refused = api.post(
        "/budgetguard/api/cloud-nodes/stop", {"provider": "aws", "instance_name": "flux-dev-i-1"}, format="json"
    )
    assert (refused.status_code, refused.json()["code"], refused.json()["operation"]) == (
        409,
        "operation_active",
        str(operation.id),
    )
    assert refused["Content-Type"] == "application/problem+json"
    status = api.get("/api/cloud-nodes/status").json()["cloud_nodes"]["FLUX Dev"]["a10g"]["aws"]
    assert (status["status"], status["operation"]["id"]) == ("starting", str(operation.id))
    worker.until_done()
    assert fresh(node).observed_state == "awake"


def test_the_specifications_own_fetch_calls_work(node: CloudNode, client_of: Callable, olga: Persona) -> None:
    """`fetch(url, {method: "POST", body: JSON.stringify(...)})` sends text/plain; the browser's session needs its CSRF token."""
    browser = client_of(olga)
    for path, body, status in (
        ("cost-estimate", {"node_type": "FLUX Dev", "provider": "aws", "params": {}}, 200),
        ("cost-actual", {"workflow_id": "w1", "node_type": "FLUX Dev", "provider": "aws"}, 200),
        ("cloud-nodes/start", {"provider": "aws", "instance_name": "flux-dev-i-1"}, 202),
    ):
        answer = browser.post(f"/budgetguard/api/{path}", json.dumps(body), content_type="text/plain;charset=UTF-8")
        assert answer.status_code == status, path
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(olga.user)
    assert strict.post("/budgetguard/api/cloud-nodes/start", "{}", content_type="text/plain").status_code == 403


def test_idempotency_key_header(node: CloudNode, api: APIClient, worker: Worker, cloud: MemoryCloud) -> None:
    def start(**extra: str) -> object:
        return api.post(
            "/api/cloud-nodes/start",
            {"provider": "aws", "instance_name": "i-1"},
            format="json",
            headers={"Idempotency-Key": "k1"},
            **extra,
        )

    first = start().json()["operation"]["id"]
    worker.until_done()
    assert start().json()["operation"]["id"] == first
    reused = api.post(
        "/api/cloud-nodes/stop",
        {"provider": "aws", "instance_name": "i-1"},
        format="json",
        headers={"Idempotency-Key": "k1"},
    )
    assert (reused.status_code, reused.json()["code"]) == (409, "idempotency_key_reused")
    too_long = api.post(
        "/api/cloud-nodes/stop",
        {"provider": "aws", "instance_name": "i-1"},
        format="json",
        headers={"Idempotency-Key": "k" * 81},
    )
    assert (too_long.status_code, list(too_long.json()["errors"])) == (422, ["Idempotency-Key"])
    assert cloud.starts == {"i-1": 1}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "provider"),
        ({"provider": "aws"}, "instance_name"),
        ({"provider": "ibm", "instance_name": "x"}, "provider"),
        ({"provider": "aws", "instance_name": ["x"]}, "instance_name"),
        ({"id": "x"}, "id"),
        ({"provider": "aws", "instance_name": "x" * 401}, "instance_name"),
    ],
)
def test_bad_input_names_the_field(node: CloudNode, api: APIClient, body: dict, field: str) -> None:
    answer = api.post("/api/cloud-nodes/start", body, format="json")
    assert (answer.status_code, field in answer.json()["errors"]) == (422, True)


def test_broken_json_and_unknown_names(node: CloudNode, api: APIClient) -> None:
    assert api.post("/api/cloud-nodes/start", "{", content_type="application/json").status_code == 400
    assert api.post("/api/cloud-nodes/start", "[1]", content_type="text/plain").status_code in (400, 422)
    assert (
        api.post(
            "/api/cloud-nodes/start", {"provider": "azure", "instance_name": "flux-dev-i-1"}, format="json"
        ).status_code
        == 404
    )
    assert api.post("/api/cost-estimate", {"node_type": "Nothing", "provider": "aws"}, format="json").status_code == 404


def test_apply(cloud: MemoryCloud, scan: Callable, api: APIClient) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    cloud.add("i-3", S.RUNNING, scaling=Scaling.TO_ZERO)
    one, _two, three = scan()
    body = {"on": [str(one.id)], "off": ["flux-dev-i-2", str(three.id)]}
    answer = api.post("/budgetguard/api/cloud-nodes/apply", body, format="json", headers={"Idempotency-Key": "evening"})
    assert answer.status_code == 202
    assert sorted(o["kind"] for o in answer.json()["operations"]) == ["node.start", "node.stop"]
    assert [(s["node"], s["code"]) for s in answer.json()["skipped"]] == [
        ("FLUX Dev (flux-dev-i-3)", "scales_by_itself")
    ]
    again = api.post("/budgetguard/api/cloud-nodes/apply", body, format="json", headers={"Idempotency-Key": "evening"})
    assert [o["id"] for o in again.json()["operations"]] == [o["id"] for o in answer.json()["operations"]]
    assert api.post("/budgetguard/api/cloud-nodes/apply", {}, format="json").status_code == 422


def test_estimate(
    node: CloudNode, api: APIClient, cloud: MemoryCloud, worker: Worker, olga: Persona, time: Time, scan: Callable
) -> None:
    def ask(**params: object) -> dict:
        return api.post(
            "/budgetguard/api/cost-estimate",
            {"node_type": "FLUX Dev", "provider": "aws", "params": params},
            format="json",
        ).json()

    nothing = ask()
    assert (nothing["cost"], nothing["basis"], nothing["hourly_rate"], nothing["breakdown"]) == (
        None,
        "no_data",
        "1.200000",
        [],
    )
    assert ask(minutes=30)["cost"] == "0.600000"
    assert ask(minutes=30)["basis"] == "given_duration"
    for minutes in (10, 20, 60):
        services.request_start(actor=olga.actor, node_id=node.id)
        worker.until_done()
        time.go(minutes * 60)
        services.request_stop(actor=olga.actor, node_id=node.id)
        worker.until_done()
    learned = ask()
    assert learned["basis"] == "earlier_intervals"
    assert [line["item"] for line in learned["breakdown"]] == ["wake", "run"]
    assert Decimal(learned["cost"]) == sum(Decimal(line["cost"]) for line in learned["breakdown"])
    assert 1200 <= learned["breakdown"][1]["seconds"] <= 1210
    cloud.add("i-9", node_type="Other", hourly_cost=None, instance_type="x9.large")
    scan()
    unpriced = api.post(
        "/api/cost-estimate", {"node_type": "other", "provider": "aws", "params": {"hours": 1}}, format="json"
    ).json()
    assert (unpriced["cost"], unpriced["basis"], unpriced["hourly_rate"]) == (None, "no_data", None)


def test_actual(node: CloudNode, api: APIClient, worker: Worker, olga: Persona, time: Time, cloud: MemoryCloud) -> None:
    def ask(**more: str) -> dict:
        return api.post(
            "/budgetguard/api/cost-actual",
            {"workflow_id": "w1", "node_type": "FLUX Dev", "provider": "aws", **more},
            format="json",
        ).json()

    none = ask()
    assert (none["cost"], none["basis"], none["gpu_seconds"], none["intervals"], none["workflow_id"]) == (
        None,
        "no_data",
        0.0,
        [],
        "w1",
    )
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.until_done()
    from costs.models import Interval

    since = Interval.objects.all_orgs().get(phase="awake").started_at
    time.now = since + timedelta(hours=1)
    now = ask()
    assert (now["cost"], now["gpu_seconds"], now["basis"], now["currency"]) == ("1.200000", 3600.0, "intervals", "USD")
    assert [(i["open"], i["cost"]) for i in now["intervals"]] == [(True, "1.200000")]
    part = ask(
        started_at=(since + timedelta(minutes=15)).isoformat(), ended_at=(since + timedelta(minutes=45)).isoformat()
    )
    assert (part["cost"], part["gpu_seconds"]) == ("0.600000", 1800.0)
    wrong = api.post(
        "/api/cost-actual",
        {
            "workflow_id": "w",
            "node_type": "FLUX Dev",
            "provider": "aws",
            "started_at": since.isoformat(),
            "ended_at": since.isoformat(),
        },
        format="json",
    )
    assert wrong.status_code == 422


def test_spend_today(node: CloudNode, api: APIClient, alice: Persona, cloud: MemoryCloud, time: Time) -> None:
    costs.set_budget(actor=alice.actor, amount=Decimal(20))
    cloud.put("i-1", S.RUNNING)
    services.observe(node_id=node.id, instance=cloud.describe(["i-1"])["i-1"], at=time.now)
    time.go(1800)
    answer = api.get("/budgetguard/api/spend/today").json()
    assert (answer["start"], answer["end"]) == ("2031-06-12T00:00:00.000Z", "2031-06-13T00:00:00.000Z")
    assert answer["by_person"] == [{"name": "", "spent": "0.600000", "burn_rate": "1.200000", "daily_spend": None}]
    assert answer["end_of_day"]["if_nothing_changes"] == "18.000000"  # nine to midnight at 1.20
    assert (answer["end_of_month"]["basis"], answer["end_of_month"]["at_usual_pace"]) == ("no_data", None)
    assert [(b["amount"], b["percent"], b["acting"]) for b in answer["budgets"]] == [("20.00", 3, False)]
    wanted = ("spent", "currency", "burn_rate", "budget", "by_node")
    assert {name: answer[name] for name in wanted} == {
        "spent": "0.600000",
        "currency": "USD",
        "burn_rate": "1.200000",
        "budget": "20.00",
        "by_node": [
            {
                "id": str(node.id),
                "node_type": "FLUX Dev",
                "provider": "aws",
                "gpu_tier": "a10g",
                "instance_name": "flux-dev-i-1",
                "spent": "0.600000",
            }
        ],
    }


def test_rights(node: CloudNode, api_of: Callable, mallory: Persona, bob: Persona, client: Client) -> None:
    body = {"provider": "aws", "instance_name": "flux-dev-i-1"}
    assert api_of(mallory).get("/api/cloud-nodes/status").json() == {"cloud_nodes": {}}
    assert api_of(mallory).get("/api/spend/today").json()["by_node"] == []
    for path in ("start", "stop"):
        assert api_of(mallory).post(f"/api/cloud-nodes/{path}", body, format="json").status_code == 404
        assert api_of(mallory).post(f"/api/cloud-nodes/{path}", {"id": str(node.id)}, format="json").status_code == 404
        refused = api_of(bob).post(f"/api/cloud-nodes/{path}", body, format="json")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    for path in ("cost-estimate", "cost-actual"):
        stranger = api_of(mallory).post(
            f"/api/{path}", {"workflow_id": "w", "node_type": "FLUX Dev", "provider": "aws"}, format="json"
        )
        assert stranger.status_code == 404
    assert client.get("/api/cloud-nodes/status").status_code == 401
    assert not Operation.objects.all_orgs().exists()


def test_status_query_budget(cloud: MemoryCloud, scan: Callable, olga: Persona, account: CloudAccount) -> None:
    cloud.add("i-1")
    scan()
    for _ in range(2):
        with CaptureQueriesContext(connection) as seen:
            selectors.cloud_nodes_status(actor=olga.actor)
        assert len(seen) == 2
        cloud.add("i-2")
        cloud.add("i-3", node_type="SDXL Turbo")
        scan()
        services.request_start(actor=olga.actor, provider="aws", instance_name="i-3")
