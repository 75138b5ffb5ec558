"""Routes of the GPU fleet and of its agents."""

from __future__ import annotations

from core import clock
from gpu_fleet import services
from gpu_fleet.models import Machine, Rental, Snapshot
from operations.services import cancel_operation
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account

ID = "/api/instances/{gpu}"
STANDBY = "/api/standby/associations/{standby}"


def build(world: World) -> None:
    """A machine that is awake, and a snapshot of it."""
    organization = world.alice.organization
    account = make_account(organization, provider="docker", number="GPU-ENGINE", method="local", credentials="sealed")
    machine, operation = services.create_machine(
        actor=world.alice.actor, name="ember", account_id=account.id, wanted={"disk_gb": 16}
    )
    cancel_operation(actor=world.alice.actor, operation_id=operation.id)
    now = clock.now()
    rental = Rental.objects.for_org(organization).create(
        organization=organization,
        machine=machine,
        account=account,
        operation_id=operation.id,
        generation=1,
        label="curfew-x-r1",
        provider="docker",
        provider_id="curfew-x-r1-0",
        offer_id="e-0",
        host_id="e-0",
        lane="won",
        intended_at=now,
        moved_at=now,
    )
    Machine.objects.for_org(organization).filter(id=machine.id).update(
        rental=rental, generation=1, awake_since=now, heard_at=now, observed_state="awake"
    )
    snapshot = Snapshot.objects.for_org(organization).create(
        organization=organization, machine=machine, generation=1, state="failed", created_at=now
    )
    second = make_account(organization, provider="docker", number="CPU-ENGINE", method="local", credentials="sealed")
    standby = services.create_standby(actor=world.alice.actor, machine_id=machine.id, account_id=second.id)
    world.ids.update(gpu=str(machine.id), snapshot=str(snapshot.id), standby=str(standby.id))


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


def _order(verb: str, *, owner: int = 202) -> Route:
    return api("POST", f"{ID}/{verb}", viewer=403, operator=owner, owner=owner, stranger=404)


ROUTES = [
    page("/gpu-fleet/"),
    page("/gpu-fleet/?view=table"),
    page("/gpu-fleet/{gpu}/", stranger=404),
    page("/gpu-fleet/{gpu}/move", viewer=403, operator=200, stranger=404),
    page("/gpu-fleet/wizard"),
    page("/gpu-fleet/deploy", viewer=403, operator=403),
    page("/gpu-fleet/snapshots"),
    page("/gpu-fleet/market"),
    page("/gpu-fleet/savings"),
    page("/gpu-fleet/settings"),
    page("/gpu-fleet/orphans", viewer=403, operator=403),
    page("/gpu-fleet/{gpu}/destroy", viewer=403, operator=403, stranger=404),
    _post("/gpu-fleet/{gpu}/destroy", 403, 403, 302, 404, {"name": "ember"}),
    _post("/gpu-fleet/{gpu}/wake", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/sleep", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/pause", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/snapshot", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/keep", 403, 302, 302, 404, {"minutes": "60"}),
    _post("/gpu-fleet/{gpu}/cancel", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/failover", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/failback", 403, 302, 302, 404),
    _post("/gpu-fleet/{gpu}/standby", 403, 403, 302, 404, {"action": "off"}),
    _post("/gpu-fleet/deploy", 403, 403, 422, 422),
    _post("/gpu-fleet/settings", 403, 403, 422, 422),
    _post("/gpu-fleet/snapshots/{snapshot}", 403, 403, 302, 404, {"action": "delete"}),
    _post("/gpu-fleet/orphans/destroy", 403, 403, 404, 404, {"account_id": "11111111-1111-4111-8111-111111111111"}),
    Route("GET", "/install/machine.pyz", 200, 200, 200, 200, 200),
    api("POST", "/api/agent/status", viewer=403, operator=403, owner=403, stranger=403),
    api("POST", "/api/agent/machine/manifest/x", viewer=403, operator=403, owner=403, stranger=403),
    api("GET", "/api/agent/machine/manifest/x", viewer=403, operator=403, owner=403, stranger=403),
    *(
        Route(method, f"/api/agent/machine/repository/{{gpu}}/{name}", 401, 401, 401, 401, 401, api=True)
        for method, name in (("GET", "config"), ("POST", f"data/{'a' * 64}"), ("DELETE", f"locks/{'a' * 64}"))
    ),
    api("GET", "/api/agent/instances", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/agent/instances/{gpu}/keep-alive?minutes=30", viewer=403, operator=200, owner=200, stranger=404),
    api("GET", "/api/instances", viewer=200, operator=200, owner=200, stranger=200),
    api(
        "POST",
        "/api/instances",
        viewer=403,
        operator=403,
        owner=404,
        stranger=404,
        body={"name": "fresh", "account_id": "11111111-1111-4111-8111-111111111111"},
    ),
    api("GET", "/api/instances/offers", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", ID, viewer=200, operator=200, owner=200, stranger=404),
    api("DELETE", ID, viewer=403, operator=403, owner=202, stranger=404, body={"name": "ember"}),
    _order("wake", owner=409),
    _order("hibernate"),
    _order("sync"),
    _order("pause"),
    _order("resume", owner=409),
    _order("migrate"),
    api("GET", f"{ID}/migrate/estimate", viewer=200, operator=200, owner=200, stranger=404),
    api("POST", f"{ID}/keep-alive", viewer=403, operator=200, owner=200, stranger=404),
    _order("failover", owner=409),
    _order("failback", owner=409),
    api("POST", "/api/agent/machine/lease", viewer=403, operator=403, owner=403, stranger=403),
    api("GET", "/api/standby", viewer=200, operator=200, owner=200, stranger=200),
    api("PUT", "/api/standby", viewer=403, operator=403, owner=200, stranger=200, body={"interval_seconds": 20}),
    api("GET", "/api/standby/associations", viewer=200, operator=200, owner=200, stranger=200),
    api(
        "POST",
        "/api/standby/associations",
        viewer=403,
        operator=403,
        owner=404,
        stranger=404,
        body={"machine_id": "{gpu}", "account_id": "11111111-1111-4111-8111-111111111111"},
    ),
    api("GET", STANDBY, viewer=200, operator=200, owner=200, stranger=404),
    api("PATCH", STANDBY, viewer=403, operator=403, owner=200, stranger=404, body={"grace_seconds": 60}),
    api("DELETE", STANDBY, viewer=403, operator=403, owner=204, stranger=404),
    api("POST", f"{STANDBY}/start-sync", viewer=403, operator=403, owner=200, stranger=404),
    api("POST", f"{STANDBY}/stop-sync", viewer=403, operator=403, owner=200, stranger=404),
    api("GET", "/api/snapshots", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/snapshots", viewer=403, operator=202, owner=202, stranger=404, body={"machine_id": "{gpu}"}),
    api("DELETE", "/api/snapshots/{snapshot}", viewer=403, operator=403, owner=204, stranger=404),
    api("POST", "/api/snapshots/{snapshot}/restore", viewer=403, operator=409, owner=409, stranger=404),
    api("POST", "/api/snapshots/{snapshot}/verify", viewer=403, operator=409, owner=409, stranger=404),
    api("GET", "/api/settings", viewer=200, operator=200, owner=200, stranger=200),
    *(
        api("GET", f"/api/{path}", viewer=200, operator=200, owner=200, stranger=200)
        for path in (
            "spot/monitor",
            "spot/savings?hours_per_day=4",
            "spot/interruption-rates",
            "spot/safe-windows/RTX 4090",
            "spot/llm-gpus?model_size=7b",
            "spot/prediction/RTX 4090",
            "spot/availability",
            "spot/reliability",
            "spot/training-cost",
            "spot/fleet-strategy",
            "metrics",
            "metrics/savings/real",
            "metrics/savings/history",
            "hibernation/events",
        )
    ),
    api(
        "POST", "/api/ai-wizard/analyze", viewer=200, operator=200, owner=200, stranger=200, body={"model": "llama-7b"}
    ),
    api("PUT", "/api/settings", viewer=403, operator=403, owner=200, stranger=200, body={"idle_minutes": 5}),
]
