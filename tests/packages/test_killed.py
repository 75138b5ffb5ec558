"""SIGKILL at random moments of a build, an installation and an upgrade: going on ends where an undisturbed run ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cloudnodes.packages.builder import PackageBuilder, Request
from cloudnodes.packages.images import EngineImages
from cloudnodes.packages.upgrade import read_base
from tests.packages.conftest import Engine, Installer, node
from tests.stack import free_port

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.slow]
KILLS = 5
PORT, OTHER_PORT = free_port(), free_port()


@pytest.fixture(scope="module", autouse=True)
def _images(workshop: Engine) -> None:
    workshop.image("studio/weights:1", ("/a", os.urandom(12_000_000)), ("/b", os.urandom(12_000_000)))
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"), parent="studio/weights:1")
    workshop.image("studio/flux-dev:1.1", ("/www/index.html", b"flux dev 1.1"), parent="studio/weights:1")
    workshop.image("studio/flux-canny:1.0", ("/c", os.urandom(9_000_000)), parent="studio/flux-dev:1.0")


def run_and_kill(command: list[str], after: float, environment: dict[str, str] | None = None) -> bool:
    """Run a command and kill all of its processes after some seconds; False when it ended by itself before."""
    child = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    )
    try:
        child.wait(timeout=after)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        return True
    return False


def timed(command: list[str], environment: dict[str, str] | None = None) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=120)
    return time.monotonic() - began


def nodes() -> list:
    return [node(container_port=PORT), node("FLUX Canny", "studio/flux-canny:1.0", container_port=OTHER_PORT)]


def test_a_build_goes_on_after_any_kill(workshop: Engine, tmp_path: Path) -> None:
    def command(output: Path) -> list[str]:
        return [
            sys.executable,
            "-m",
            "tests.packages.building",
            workshop.socket,
            str(output),
            str(PORT),
            str(OTHER_PORT),
        ]

    whole = timed(command(tmp_path / "whole.zip"))
    expected = (tmp_path / "whole.zip").read_bytes()
    chance, killed = random.Random(5), 0
    for number in range(KILLS):
        output = tmp_path / f"{number}.zip"
        for _ in range(2):
            killed += run_and_kill(command(output), chance.uniform(0.3, 1.0) * whole)
            assert not output.exists() or output.read_bytes() == expected
        whole = min(whole, timed(command(output)))  # a machine that was busy at first must not make the kills come late
        assert output.read_bytes() == expected
        assert sorted(p.name for p in tmp_path.glob(f"*{number}.zip*")) == [output.name]
        output.unlink()
    assert killed >= 1  # a resumed build is quicker than the whole one: most kills come too late


def settled(station: Engine) -> dict:
    """What is left once the engine has noticed that its caller is gone."""
    for _ in range(50):
        before = station.remains()
        time.sleep(0.1)
        if station.remains() == before:
            break
    return station.remains()


def test_an_installation_goes_on_after_any_kill(
    workshop: Engine, station: Engine, install: Installer, tmp_path: Path
) -> None:
    package = PackageBuilder(Request(nodes(), tmp_path / "p.zip"), EngineImages(workshop.client)).build().path
    before = station.remains()
    command, environment = install.command("--package", str(package), "--start"), install.environment()
    whole = timed(command, environment)
    install("uninstall")
    assert station.remains() == before
    chance, killed = random.Random(6), 0
    for number in range(KILLS):
        killed += run_and_kill(command, chance.uniform(0.05, 1.0) * whole, environment)
        if number % 2:
            report = install("--package", str(package), "--start")
            assert [n["running"] for n in report["nodes"]] == [True, True]
            assert {"studio/flux-dev:1.0", "studio/flux-canny:1.0"} <= station.tags()
        install("uninstall", "--force")
        assert settled(station) == before
        assert not install.home.exists()
    assert killed >= KILLS // 2


def test_an_upgrade_goes_on_after_any_kill(
    workshop: Engine, station: Engine, install: Installer, tmp_path: Path
) -> None:
    images = EngineImages(workshop.client)
    first = PackageBuilder(Request([node(container_port=PORT)], tmp_path / "1.zip"), images).build().path
    newer = Request([node(image="studio/flux-dev:1.1", container_port=PORT)], tmp_path / "2.zip", base=read_base(first))
    second = PackageBuilder(newer, images).build().path
    before = station.remains()
    command, environment = install.command("upgrade", "--package", str(second)), install.environment()
    install("--package", str(first), "--start")
    whole = timed(command, environment)
    install("uninstall")
    chance, killed = random.Random(8), 0
    for _ in range(KILLS):
        install("--package", str(first), "--start")
        killed += run_and_kill(command, chance.uniform(0.1, 1.0) * whole, environment)
        report = install("upgrade", "--package", str(second))
        assert [(n["running"], n["container"]) for n in report["nodes"]] == [(True, "curfew-flux-dev")]
        assert [c["Names"] for c in station.client.containers(all=True)] == [["/curfew-flux-dev"]]
        assert "studio/flux-dev:1.0" not in station.tags()
        install("uninstall")
        assert settled(station) == before
    assert killed >= KILLS // 2
