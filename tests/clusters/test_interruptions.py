"""How likely spot nodes are to be interrupted: AWS's bands first, then what was seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditEntry
from clusters.models import ClusterNode, SpotBand, Summary
from clusters.providers import spot_advisor
from core.providers import BadAnswer, Unreachable
from tests.clusters.conftest import Joined, Time
from tests.clusters.report import records
from tests.fakes import kube_objects as make
from tests.fakes.server import SaysAlways, free_port
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
FILE = {
    "ranges": [{"index": 0, "label": "<5%"}],
    "spot_advisor": {
        "eu-west-1": {
            "Linux": {"m5.large": {"s": 70, "r": 0}, "c5.2xlarge": {"s": 60, "r": 4}, "odd": {"s": 1, "r": 9}},
            "Windows": {"m5.large": {"s": 30, "r": 3}},
        }
    },
}


def _risk(joined: Joined) -> dict[str, Any]:
    spot = Summary.objects.all_orgs().get(cluster_id=joined.id).insights["stability"]["spot"]
    assert len(spot) == 1
    found: dict[str, Any] = spot[0]
    return found


def _node(kind: str) -> dict[str, Any]:
    return make.node("spot-1", size=kind, spot=True)


def test_bands_come_first_and_what_was_seen_moves_them(
    join: Callable[..., Joined], time: Time, tmp_path: Path, alice: Persona, prices: None
) -> None:
    joined = join()
    joined.reporter.tables = records(_node("c5.2xlarge"))
    joined.report()
    unknown = _risk(joined)
    assert unknown["prior"] == "no band known"
    copy = tmp_path / "advisor.json"
    copy.write_text(json.dumps(FILE))
    out = StringIO()
    call_command("refresh_spot_bands", from_json=str(copy), stdout=out)
    assert out.getvalue().strip() == "2 types in 1 regions"
    assert set(SpotBand.objects.values_list("instance_type", "band")) == {("m5.large", 0), ("c5.2xlarge", 4)}
    entry = AuditEntry.objects.all_orgs().get(verb="cluster.spot_bands_imported")
    assert entry.organization_id == alice.organization.id
    time.go(24 * 3600)
    joined.report()
    banded = _risk(joined)
    assert banded["prior"] == "Spot Advisor band >20 %"
    assert banded["monthly"] > unknown["monthly"]
    assert banded["node_hours"] == pytest.approx(24, abs=0.1)
    event = make.event("taken", reason="SpotInterruption")
    event["involvedObject"] = {"kind": "Node", "name": "spot-1"}
    event["lastTimestamp"] = (time.now - timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    joined.reporter.tables = records(_node("c5.2xlarge"), event)
    for _ in range(2):  # an event stays in reports for an hour and is counted once
        joined.report()
        taken = _risk(joined)
        assert taken["interruptions"] == 1
    assert taken["monthly"] > banded["monthly"]
    assert ClusterNode.objects.all_orgs().get(name="spot-1").interrupted_at == time.now.replace(
        microsecond=0
    ) - timedelta(minutes=1)


def test_importing_anew_replaces_a_regions_bands(tmp_path: Path, alice: Persona) -> None:
    copy = tmp_path / "advisor.json"
    copy.write_text(json.dumps(FILE))
    call_command("refresh_spot_bands", from_json=str(copy), stdout=StringIO())
    newer = {"spot_advisor": {"eu-west-1": {"Linux": {"m5.large": {"s": 70, "r": 2}}}}}
    copy.write_text(json.dumps(newer))
    call_command("refresh_spot_bands", from_json=str(copy), stdout=StringIO())
    assert list(SpotBand.objects.values_list("instance_type", "band")) == [("m5.large", 2)]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"spot_advisor": []}', '{"spot_advisor": {"x": {"Linux": {}}}}'])
def test_what_is_no_advisors_file_is_refused_and_changes_nothing(text: str, tmp_path: Path, alice: Persona) -> None:
    with pytest.raises(BadAnswer):
        spot_advisor.parse(text)
    copy = tmp_path / "advisor.json"
    copy.write_text(text)
    with pytest.raises(CommandError):
        call_command("refresh_spot_bands", from_json=str(copy), stdout=StringIO())
    assert not SpotBand.objects.exists()


def test_the_published_file_is_fetched() -> None:
    with SaysAlways(json.dumps(FILE), kind="application/json") as server:
        assert {band.instance_type for band in spot_advisor.fetch(server.url)} == {"m5.large", "c5.2xlarge"}
    with SaysAlways("<html>", status=403) as server, pytest.raises(BadAnswer, match="403"):
        spot_advisor.fetch(server.url)
    with pytest.raises(Unreachable):
        spot_advisor.fetch(f"http://127.0.0.1:{free_port()}")
