"""Recorded clusters through the agent's own way of sending."""

from __future__ import annotations

import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agent.cluster.main import main
from agent.cluster.placing import asked, place
from agent.cluster.replay import Replay, busiest
from agent.cluster.traces import GPU, GPU_SHARE, BadTrace, Trace, TraceBox, TraceNode, TracePod, load
from clusters.inventory import ingest
from clusters.inventory.model import Snapshot
from tests.agent.platform import TOKEN, Platform

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = Path(os.environ.get("CURFEW_SHARED_DATA", ROOT.parent / "shared" / "data"))


def real(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"the recorded trace {name} is not here ({DATA})")
    return DATA / name


def write(path: Path, *rows: dict[str, Any], packed: bool = False) -> None:
    with gzip.open(f"{path}.gz", "wt", newline="") if packed else path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    write(tmp_path / "nodes.csv", {"name": "n1", "cpu_m": 4000, "memory_bytes": 2**34, "pods": 110, "gpu": "", "gpu_model": "", "instance_type": "m5.xlarge",
                                   "zone": "a", "region": "r", "lifecycle": "spot", "group": "g"}, packed=True)  # fmt: skip
    write(
        tmp_path / "pods.csv",
        {"namespace": "shop", "name": "web", "node": "n1", "cpu_m": 250, "memory_bytes": 2**28, "cpu_limit_m": "", "memory_limit_bytes": 2**29, "created_s": 0, "scheduled_s": 10, "deleted_s": 1000},
        {"namespace": "shop", "name": "late", "node": "n1", "cpu_m": 1, "memory_bytes": 1, "cpu_limit_m": "", "memory_limit_bytes": "", "created_s": 900, "scheduled_s": 900, "deleted_s": ""},
        {"namespace": "shop", "name": "stuck", "node": "", "cpu_m": 9000, "memory_bytes": 1, "cpu_limit_m": "", "memory_limit_bytes": "", "created_s": 5, "scheduled_s": "", "deleted_s": ""},
    )  # fmt: skip
    write(
        tmp_path / "workloads.csv",
        {"namespace": "shop", "name": "web", "replicas": 2, "container": "app", "cpu_m": 250, "memory_bytes": 2**28, "schedule": "", "hpa_min": 2, "hpa_max": 5},
        {"namespace": "shop", "name": "web", "replicas": 2, "container": "proxy", "cpu_m": 50, "memory_bytes": 2**26, "schedule": "", "hpa_min": "", "hpa_max": ""},
        {"namespace": "shop", "name": "nightly", "replicas": "", "container": "job", "cpu_m": 100, "memory_bytes": 2**26, "schedule": "15 2 * * *", "hpa_min": "", "hpa_max": ""},
    )  # fmt: skip
    usage = [{"t_seconds": t, "node": n, "namespace": "" if n else "shop", "pod": "" if n else "web", "container": "", "cpu_nanocores": t * 1000, "memory_bytes": t if n else ""}
             for t in range(0, 1500, 60) for n in ("n1", "")]  # fmt: skip
    write(tmp_path / "usage.csv", *usage)
    return tmp_path


@pytest.mark.integration
def test_our_own_form_arrives_as_if_it_were_live(ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CURFEW_TOKEN", TOKEN)
    with Platform() as platform:
        assert main(["--url", platform.url, "--replay", str(ours), "--replay-at", "950", "--name", "a trace"]) == 0
        snapshot = platform.snapshot
        assert platform.cluster is not None
        assert (platform.cluster.name, platform.messages[0].agent["mode"]) == ("a trace", "replay")
        node = snapshot.nodes["n1"]
        assert (node.instance_type, node.zone, node.lifecycle, node.group) == ("m5.xlarge", "a", "spot", "g")
        assert node.allocatable == {"cpu": 4000, "memory": 2**34, "pods": 110}
        assert {p.name: (p.node, p.phase) for p in snapshot.pods.values()} == {
            "web": ("n1", "Running"), "late": ("n1", "Running"), "stuck": ("", "Pending"),
        }  # fmt: skip
        web = snapshot.spec_of(snapshot.pods["shop/web"])
        assert (web.requests, web.limits) == ({"cpu": 250, "memory": 2**28}, {"memory": 2**29})
        deployment = snapshot.workloads["Deployment/shop/web"]
        assert deployment.replicas == 2
        assert [c.name for c in snapshot.specs[deployment.template].containers] == ["app", "proxy"]
        assert snapshot.workloads["CronJob/shop/nightly"].schedule == "15 2 * * *"
        assert (snapshot.autoscalers["shop/web"].min, snapshot.autoscalers["shop/web"].max) == (2, 5)
        assert [s.number for s in platform.samples] == list(range(1, 26))
        assert platform.samples[-1].nodes["n1"] == (1_440_000, 1440)
        assert platform.samples[-1].pods["shop/web"]["app"] == (1_440_000, None), "what is unknown stays unknown"
        gaps = {(b.at - a.at).total_seconds() for a, b in zip(platform.samples, platform.samples[1:], strict=False)}
        assert gaps == {60.0}
        first = platform.cluster.uid
        assert main(["--url", platform.url, "--replay", str(ours), "--name", "a trace"]) == 0
        assert platform.cluster.uid == first, "the same trace is the same cluster again"


@pytest.mark.unit
def test_moments_of_a_trace(ours: Path) -> None:
    def names(at: str) -> set[str]:
        return {o["metadata"]["name"] for kind, o in Replay.load([ours], at=at).objects() if kind == "pods"}

    assert names("0") == {"web"}
    assert names("950") == {"web", "late", "stuck"}
    assert names("1000") == {"late", "stuck"}
    assert names("all") == names("busiest") == {"web", "late", "stuck"}
    with pytest.raises(BadTrace):
        Replay.load([ours], at="noon")


@pytest.mark.unit
def test_usage_is_cut_to_the_last_days(ours: Path) -> None:
    assert len(list(Replay.load([ours], days=600 / 86_400).samples())) == 11


@pytest.mark.unit
def test_busiest_moment() -> None:
    def pod(start: float | None, end: float | None) -> TracePod:
        return TracePod("n", "p", [], scheduled=start, deleted=end)

    assert busiest([]) == 0.0
    assert busiest([pod(0, 10), pod(5, 6), pod(6, 9), pod(7, None), pod(None, None)]) == 7


@pytest.mark.unit
def test_what_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(BadTrace, match=r"no \.csv"):
        load(tmp_path)
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(BadTrace, match="of no form"):
        load(tmp_path)
    (tmp_path / "nodes.csv.gz").write_bytes(b"not gzip")
    with pytest.raises(BadTrace):
        load(tmp_path)
    assert main(["--dry-run", "--replay", str(tmp_path)]) == 2


@pytest.mark.unit
def test_placing_honours_memory_models_and_shares_of_gpus() -> None:
    def node(name: str, cpu: int, gpus: int = 0, model: str = "") -> TraceNode:
        gpu = {GPU: gpus} if gpus else {}
        return TraceNode(name, {"cpu": cpu, "memory": 100, **gpu}, {"nvidia.com/gpu.product": model} if model else {})

    def pod(name: str, cpu: int, memory: int = 1, share: int = 0, models: tuple[str, ...] = ()) -> TracePod:
        gpu = {GPU_SHARE: share} if share else {}
        return TracePod("n", name, [TraceBox("a", {"cpu": cpu, "memory": memory, **gpu})], gpu_models=frozenset(models))

    trace = Trace("t", [node("plain", 1000), node("t4", 1000, 1, "T4"), node("v100", 1000, 1, "V100")])
    pods = [
        pod("a-share", 100, share=600, models=("T4",)), pod("b-share", 100, share=600, models=("T4",)), pod("c-any", 100, share=600),
        pod("d-small", 100), pod("e-memory", 1, memory=101), pod("f-small-share", 1, share=400, models=("T4",)),
    ]  # fmt: skip
    found = place(trace, pods)
    assert found == {"a-share": "t4", "c-any": "v100", "d-small": "plain", "f-small-share": "t4"}


def _totals(snapshot: Snapshot) -> dict[str, dict[str, int]]:
    used: dict[str, dict[str, int]] = {}
    for name, pods in snapshot.pods_by_node().items():
        total = used.setdefault(name, {})
        for pod in pods:
            for resource, amount in snapshot.spec_of(pod).requests.items():
                total[resource] = total.get(resource, 0) + amount
    return used


@pytest.mark.integration
def test_a_real_cluster_of_more_than_a_thousand_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [real("alibaba_gpu_cluster_2023"), real("alibaba_spot_gpu_nodes_2026")]
    monkeypatch.setenv("CURFEW_TOKEN", TOKEN)
    arguments = [word for folder in folders for word in ("--replay", str(folder))]
    with Platform() as platform:
        assert main(["--url", platform.url, "--replay-at", "all", *arguments]) == 0
        snapshot = platform.snapshot
    traces = [load(folder) for folder in folders]
    assert len(snapshot.nodes) == sum(len(t.nodes) for t in traces) > 1000
    assert len(snapshot.pods) == len(traces[0].pods) > 4000
    never_scheduled = {p.name for p in traces[0].pods if p.scheduled is None}
    assert {p.name for p in snapshot.pods.values() if not p.node} == never_scheduled
    for name, total in _totals(snapshot).items():
        allocatable = snapshot.nodes[name].allocatable
        assert all(amount <= allocatable.get(resource, 0) for resource, amount in total.items()), name
    wanted = sum(asked(p)[0] for p in traces[0].pods if p.scheduled is not None)
    assert sum(total.get("cpu", 0) for total in _totals(snapshot).values()) == wanted
    spot = [n for n in snapshot.nodes.values() if n.name.startswith("spot-gpu-")]
    assert all("memory" not in node.allocatable for node in spot), "what the trace does not say is not made up"


@pytest.mark.integration
@pytest.mark.parametrize(("name", "nodes", "memory"), [("materna_2016", 25, True), ("bitbrains_2013", 25, False)])
def test_real_series_arrive_with_their_usage(
    name: str, nodes: int, memory: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = real(name)
    monkeypatch.setenv("CURFEW_TOKEN", TOKEN)
    with Platform() as platform:
        assert main(["--url", platform.url, "--replay-days", "1", "--replay", str(folder)]) == 0
        assert len(platform.snapshot.nodes) == nodes
        assert len(platform.samples) == 289
        for sample in platform.samples:
            for key, used in sample.nodes.items():
                limit = platform.snapshot.nodes[key].allocatable["cpu"] * 1_000_000
                assert used.cpu is not None
                assert used.cpu <= limit * 1.25, "a share of the machine's cores, give or take turbo"
                assert (used.memory is not None) is memory
                assert sample.pods[f"machines/{key}"]["app"] == used


@pytest.mark.integration
def test_real_workloads_without_nodes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "agent", "cluster", "--dry-run", "--replay", str(real("k8s_workloads_govuk"))],
        capture_output=True, cwd=ROOT, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    message = ingest.read(done.stdout, gzip=False)
    snapshot = Snapshot.from_records({"uid": "u"}, message.records)
    assert set(snapshot.namespaces) == {"integration", "staging", "production"}
    assert len({w.name for w in snapshot.workloads.values() if w.kind == "CronJob"}) > 20
    total = sum(
        (w.replicas or 0) * snapshot.specs[w.template].requests["cpu"]
        for w in snapshot.workloads.values()
        if w.kind == "Deployment" and w.namespace == "integration"
    )
    with gzip.open(real("k8s_workloads_govuk") / "dev" / "workloads.csv.gz", "rt") as file:
        rows = [row for row in csv.DictReader(file) if row["environment"] == "integration"]
    assert total == sum(int(row["replicas"]) * int(row["cpu_request_m"]) for row in rows) > 5000
