"""Asking for nodes to wake and sleep: rights, conflicts, repeats, batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from audit.models import AuditEntry
from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import InstanceState, Scaling
from core.errors import Conflict, Forbidden, InvalidInput, InvalidState, NotFound
from core.providers import PermissionDenied
from operations.models import Operation
from tests import prepared
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.cloudnodes.storm import CLICKS, THREADS, storm
from tests.cloudnodes.test_observe import fresh, verbs
from tests.personas import Persona

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState


def test_a_start_is_asked_for_once(node: CloudNode, olga: Persona, sent_tasks: list) -> None:
    first = services.request_start(actor=olga.actor, node_id=node.id, reason="render test")
    again = services.request_start(actor=olga.actor, provider="aws", instance_name="flux-dev-i-1")
    by_provider_id = services.request_start(actor=olga.actor, provider="aws", instance_name="i-1")
    assert {first.id, again.id, by_provider_id.id} == {first.id}
    row = fresh(node)
    assert (row.desired_state, row.observed_state, row.provider_state) == ("awake", "waking", "stopped")
    assert sent_tasks == [("operations.run", {"operation_id": str(first.id)})]
    entry = AuditEntry.objects.all_orgs().get(verb="node.wake_requested")
    assert (entry.actor_label, entry.changes, entry.detail, entry.operation_id) == (
        "Olga",
        {"desired_state": ["asleep", "awake"]},
        "render test",
        first.id,
    )


def test_hundred_double_clicks_are_one_start(
    node: CloudNode, olga: Persona, worker: Worker, cloud: MemoryCloud
) -> None:
    clicked = [services.request_start(actor=olga.actor, node_id=node.id).id for _ in range(100)]
    assert len(set(clicked)) == 1
    worker.until_done()
    assert cloud.starts == {"i-1": 1}
    assert verbs(node).count("node.wake_requested") == 1


def test_hundred_clicks_at_once_are_one_operation(tmp_path: Path) -> None:
    """Twenty threads on a database in a file; on PostgreSQL the same threads on the test's own database."""
    keep = {k: v for k, v in os.environ.items() if k not in ("DATABASE_URL", "REDIS_URL")}
    env = {
        **keep,
        "CURFEW_DATA": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "CURFEW_LOG_LEVEL": "ERROR",
    }
    prepared.put_into(tmp_path)
    ran = subprocess.run(
        [sys.executable, "-m", "tests.cloudnodes.storm"], env=env, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = json.loads(ran.stdout.splitlines()[-1])
    assert len(said["rows"]) == 1
    assert said["found"] == said["rows"] * (THREADS * CLICKS)


@pytest.mark.pg
def test_hundred_clicks_at_once_on_postgresql(node: CloudNode, olga: Persona) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("PostgreSQL only; SQLite has its own test")
    assert len(set(storm(olga.actor, node.id))) == Operation.objects.all_orgs().count() == 1


def test_the_other_direction_conflicts_with_its_operation(node: CloudNode, olga: Persona) -> None:
    waking = services.request_start(actor=olga.actor, node_id=node.id)
    with pytest.raises(Conflict) as refused:
        services.request_stop(actor=olga.actor, node_id=node.id)
    assert refused.value.code == "operation_active"
    assert refused.value.extra == {"operation": str(waking.id)}
    assert fresh(node).desired_state == "awake"


def test_idempotency_key(node: CloudNode, olga: Persona, worker: Worker, cloud: MemoryCloud, scan: Callable) -> None:
    cloud.add("i-2")
    other = scan()[1]
    first = services.request_start(actor=olga.actor, node_id=node.id, idempotency_key="monday")
    worker.until_done()
    again = services.request_start(actor=olga.actor, node_id=node.id, idempotency_key="monday")
    assert again.id == first.id
    assert Operation.objects.all_orgs().count() == 1
    for call, target in ((services.request_start, other), (services.request_stop, node)):
        with pytest.raises(Conflict) as refused:
            call(actor=olga.actor, node_id=target.id, idempotency_key="monday")
        assert refused.value.code == "idempotency_key_reused"
    assert Operation.objects.all_orgs().count() == 1


def test_rights_and_tenancy(node: CloudNode, bob: Persona, mallory: Persona) -> None:
    for call in (services.request_start, services.request_stop):
        with pytest.raises(Forbidden):
            call(actor=bob.actor, node_id=node.id)
        for which in (
            {"node_id": node.id},
            {"provider": "aws", "instance_name": "flux-dev-i-1"},
            {"provider": "aws", "instance_name": "i-1"},
        ):
            with pytest.raises(NotFound):
                call(actor=mallory.actor, **which)
    with pytest.raises(NotFound):
        services.apply_changes(actor=mallory.actor, on=[node.id])
    with pytest.raises(NotFound):
        services.dismiss_error(actor=mallory.actor, node_id=node.id)
    assert services.start_all(actor=mallory.actor).operations == []
    assert not Operation.objects.all_orgs().exists()


def test_what_has_no_switch(cloud: MemoryCloud, scan: Callable, olga: Persona) -> None:
    cloud.add("a", S.RUNNING, scaling=Scaling.TO_ZERO)
    cloud.add("b", S.RUNNING)
    nodes = scan()
    CloudNode.objects.all_orgs().filter(id=nodes[1].id).update(managed=False)
    for node, code in zip(nodes, ("scales_by_itself", "unmanaged"), strict=True):
        with pytest.raises(InvalidState) as refused:
            services.request_stop(actor=olga.actor, node_id=node.id)
        assert refused.value.code == code
    assert services.stop_all(actor=olga.actor).operations == []


def test_name_of_two_nodes(cloud: MemoryCloud, scan: Callable, olga: Persona) -> None:
    cloud.add("i-1", name="twin")
    cloud.add("i-2", name="twin")
    scan()
    with pytest.raises(InvalidInput):
        services.request_start(actor=olga.actor, provider="aws", instance_name="twin")
    assert (
        services.request_start(actor=olga.actor, provider="aws", instance_name="i-2").resource_label
        == "FLUX Dev (twin)"
    )


def test_apply_does_what_it_can(cloud: MemoryCloud, scan: Callable, olga: Persona) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    cloud.add("i-3", S.RUNNING, scaling=Scaling.TO_ZERO)
    one, two, three = scan()
    services.request_stop(actor=olga.actor, node_id=two.id)
    done = services.apply_changes(actor=olga.actor, on=[str(one.id), two.id, "flux-dev-i-3"])
    assert [(o.kind, o.resource_id) for o in done.operations] == [("node.start", one.id)]
    assert [(name, refused.code) for name, refused in done.skipped] == [
        ("FLUX Dev (flux-dev-i-2)", "operation_active"),
        ("FLUX Dev (flux-dev-i-3)", "scales_by_itself"),
    ]
    assert fresh(three).observed_state == "unmanaged"


def test_apply_checks_everything_first(cloud: MemoryCloud, scan: Callable, olga: Persona) -> None:
    cloud.add("i-1")
    (node,) = scan()
    with pytest.raises(NotFound):
        services.apply_changes(actor=olga.actor, on=[node.id, "00000000-0000-4000-8000-000000000000"])
    with pytest.raises(InvalidInput):
        services.apply_changes(actor=olga.actor, on=[node.id], off=[node.id])
    with pytest.raises(InvalidInput):
        services.apply_changes(actor=olga.actor)
    assert not Operation.objects.all_orgs().exists()


def test_start_all_and_stop_all_of_a_tier(
    cloud: MemoryCloud, scan: Callable, olga: Persona, worker: Worker, time: Time
) -> None:
    cloud.add("i-1")
    cloud.add("i-2", S.RUNNING)
    cloud.add("i-3", gpu_tier="t4")
    one, two, three = scan()
    started = services.start_all(actor=olga.actor, tier="a10g")
    assert [o.resource_id for o in started.operations] == [one.id]
    worker.until_done()
    assert (fresh(one).observed_state, fresh(three).observed_state) == ("awake", "asleep")
    limited = services.stop_all(actor=olga.actor, tier="a10g", only=[str(two.id)])
    assert [o.resource_id for o in limited.operations] == [two.id]
    everything = services.stop_all(actor=olga.actor)
    assert {o.resource_id for o in everything.operations} == {one.id, two.id}
    assert cloud.starts == {"i-1": 1}


def test_dismissed_error_shows_the_truth_again(
    node: CloudNode, olga: Persona, worker: Worker, cloud: MemoryCloud
) -> None:
    cloud.fail["start"] = [PermissionDenied()]
    services.request_start(actor=olga.actor, node_id=node.id)
    worker.until_done()
    assert fresh(node).observed_state == "trouble"
    services.dismiss_error(actor=olga.actor, node_id=node.id)
    services.dismiss_error(actor=olga.actor, node_id=node.id)
    row = fresh(node)
    assert (row.observed_state, row.error, row.error_on) == ("asleep", "", "")
    assert verbs(node).count("node.error_dismissed") == 1
