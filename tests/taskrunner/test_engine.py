"""What a container of a task is given and kept from, and what the machine says of itself; no engine is needed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docker.errors import NotFound

from agent.machine.gpus import Gpu
from agent.worker import devices, main
from agent.worker.devices import Devices
from agent.worker.engine import APART, GPUS, NETWORK, CannotStart, Engine, Order, rates

ORDER = {
    "task": "t", "fence": 1, "name": "n", "image": "busybox:1", "command": ["true"], "environment": {}, "secrets": {},
    "files": {}, "network": True, "resources": {"cpu": 1500, "memory": 64, "gpus": 0}, "timeout_seconds": 60,
}  # fmt: skip


class Docker:
    """The part of the SDK's client that making a container uses."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}
        self.made: list[dict[str, Any]] = []
        self.networks = SimpleNamespace(get=self._network, create=self._new_network)
        self.containers = SimpleNamespace(list=lambda **_: [], create=self._new)

    def _network(self, name: str) -> Any:
        if name not in self.known:
            raise NotFound("no such network")
        return SimpleNamespace(attrs={"Options": self.known[name]})

    def _new_network(self, name: str, *, driver: str, options: dict[str, str], labels: dict[str, str]) -> None:
        self.known[name] = options

    def _new(self, image: str, command: Any, **options: Any) -> Any:
        self.made.append(options)
        return SimpleNamespace(id="c1")


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    client = Docker()
    monkeypatch.setattr("agent.worker.engine.docker.DockerClient", lambda **_: client)
    return client


def made(docker: Docker, *, read_only: bool = False, networks: bool = True, **changes: Any) -> dict[str, Any]:
    engine = Engine("tcp://an.engine", read_only=read_only, networks=networks)
    engine.create(Order.read({**ORDER, **changes}))
    return docker.made[-1]


def test_a_container_has_no_privileges_and_its_limits(docker: Docker) -> None:
    options = made(docker)
    assert options["cap_drop"] == ["ALL"]
    assert options["security_opt"] == ["no-new-privileges:true"]
    assert not {"privileged", "cap_add", "devices", "pid_mode", "volumes"} & options.keys()
    assert (options["nano_cpus"], options["mem_limit"], options["memswap_limit"]) == (1_500_000_000, "64m", "64m")
    assert options["pids_limit"] == 512
    assert options["mounts"] == []


def test_tasks_do_not_reach_each_other(docker: Docker) -> None:
    assert [made(docker)["network"] for _ in range(2)] == [NETWORK, NETWORK]
    assert docker.known[NETWORK][APART] == "false"
    assert made(docker, network=False)["network_mode"] == "none"
    docker.known[NETWORK] = {}  # somebody made it anew, open
    with pytest.raises(CannotStart, match="reach each other"):
        made(docker)


def test_a_root_that_cannot_be_written_where_the_machine_says_so(docker: Docker) -> None:
    assert "read_only" not in made(docker)
    options = made(docker, read_only=True)
    assert options["read_only"] is True
    assert list(options["tmpfs"]) == ["/tmp"]


def test_host_mounts_are_what_the_platform_allows_and_cannot_be_written(docker: Docker) -> None:
    (mount,) = made(docker, host_mounts=["/data"])["mounts"]
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == ("/data", "/data", True)


class Cards:
    """GPUs that are read as these."""

    def __init__(self, *cards: Gpu) -> None:
        self.cards = list(cards)

    def read(self) -> list[Gpu]:
        return self.cards


def test_each_container_has_gpus_of_its_own_and_their_figures(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "REMOVED_WITHIN", 0.0)
    cards = Cards(Gpu("A10G", 90.0, 8000.0), Gpu("A10G", 10.0, 500.0), Gpu("A10G", 50.0, None))
    engine = Engine("tcp://an.engine", networks=False, devices=Devices(3, cards))
    wish = {**ORDER["resources"], "gpus": 1}

    def create(task: str, gpus: int = 1) -> list[str]:
        engine.create(Order.read({**ORDER, "task": task, "resources": {**wish, "gpus": gpus}}))
        return list(docker.made[-1]["device_requests"][0]["DeviceIDs"])

    assert [create("a"), create("b")] == [["0"], ["1"]]
    assert docker.made[-1]["labels"][GPUS] == "1"
    with pytest.raises(CannotStart, match="2 free GPUs"):
        create("c", 2)
    engine.give_back("a")
    assert create("c", 2) == ["0", "2"]
    assert engine.devices.figures("b") == {"gpu": 10.0, "gpu_memory": 500.0}
    assert engine.devices.figures("c") == {"gpu": 70.0}, "the memory of one is unknown, so the sum is"
    assert engine.devices.figures("d") == {}
    later = Devices(3, cards)  # the agent was started again
    later.hold("b", [1])
    assert later.take("e", 2) == (0, 2)
    assert rates({"at": 1.0}, {"at": 2.0, "gpu": 70.0, "gpu_memory": 3.0}) == {"gpu": 70.0, "gpu_memory": 3.0}


def test_the_machine_says_what_it_uses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc, moment = tmp_path / "proc", [100.0]
    (proc / "net").mkdir(parents=True)
    monkeypatch.setattr(main.time, "monotonic", lambda: moment[0])
    monkeypatch.setattr(main.os, "cpu_count", lambda: 2)

    def write(busy: int, idle: int, received: int, sectors: int) -> None:
        (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 1 1 1\n")
        cards = f"lo: {received * 9} {'0 ' * 15}\n eth0:{received} {'0 ' * 7}7 {'0 ' * 7}\nveth1: 5 {'0 ' * 15}\n"
        (proc / "net" / "dev").write_text(f"Inter-|\n face |\n{cards}")
        disks = f"8 0 sda 1 0 {sectors} 0 1 0 {sectors * 2} 0\n8 1 sda1 1 0 {sectors} 0 1 0 {sectors} 0\n"
        (proc / "diskstats").write_text(disks)
        (proc / "meminfo").write_text("MemTotal: 4096 kB\nMemAvailable: 1024 kB\n")

    write(100, 100, 1000, 10)
    usage = main.Usage(tmp_path, proc, Cards(Gpu("A10G", 20.0, 100.0), Gpu("A10G", 40.0, 300.0)))
    moment[0] += 10
    write(130, 110, 6000, 30)
    found = usage.look()
    assert found.pop("storage") > 0
    assert found == pytest.approx(
        {
            "cpu": 150,
            "memory": 3,
            "network_in": 500,
            "network_out": 0,
            "disk_read": 1024,
            "disk_write": 2048,
            "gpu": 30,
            "gpu_memory": 400,
        }
    )


def test_a_machine_without_proc_says_what_it_can(tmp_path: Path) -> None:
    assert list(main.Usage(tmp_path, tmp_path / "nothing", Cards()).look()) == ["storage"]
