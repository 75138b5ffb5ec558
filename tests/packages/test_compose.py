"""Compose speaks of the same containers: the files are right for it, and what it does is still ours to remove.

Needs a compose program (`docker-compose` 1.28 or newer, or the plugin); the installer itself never does.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from tests.packages.conftest import Engine, Installer, node
from tests.packages.test_engines import page

pytestmark = [pytest.mark.integration, pytest.mark.docker]


def program() -> list[str]:
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else []


@pytest.fixture(autouse=True)
def _program() -> None:
    if not program():
        pytest.skip("no compose program is installed")


@pytest.fixture
def compose(station: Engine, install: Installer) -> Any:
    def run(*arguments: str) -> str:
        folder = install.home / "nodes/flux-dev"
        done = subprocess.run(
            [*program(), *arguments], cwd=folder, env=station.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_same_container(build: Any, workshop: Engine, station: Engine, install: Installer, compose: Any) -> None:
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"))
    before = station.remains()
    report = install("--package", str(build(node()).path))
    created = station.client.inspect_container("curfew-flux-dev")["Id"]

    compose("start")
    assert page(report["nodes"][0]["endpoint"]) == b"flux dev"
    assert "curfew-flux-dev" in compose("ps")
    compose("stop", "-t", "1")
    (there,) = station.client.containers(all=True)
    assert (there["Id"], there["State"]) == (created, "exited")

    compose("up", "-d")
    assert page(report["nodes"][0]["endpoint"]) == b"flux dev"
    assert [c["Names"] for c in station.client.containers(all=True)] == [["/curfew-flux-dev"]]
    assert install("--package", str(build(node()).path))["nodes"][0]["running"] is True
    install("uninstall")
    assert station.remains() == before


def test_both_files_are_right_for_compose(build: Any, workshop: Engine, install: Installer, compose: Any) -> None:
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"))
    spec = node(
        network="bridge",
        port=8123,
        container_port=8000,
        environment={"GREETING": 'a $dollar "quoted" ü'},
        gpu_tier="a10g",
        credentials=("HF_TOKEN",),
    )
    report = install("--package", str(build(spec).path), "--gpu", "yes")
    # .env chooses both files
    service = yaml.safe_load(compose("config"))["services"]["flux-dev"]
    assert service["environment"]["GREETING"].replace("$$", "$") == 'a $dollar "quoted" ü'
    assert service["environment"]["CURFEW_PROFILE"] == "gpu"
    assert service["image"] == report["images"][0]["tag"]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"], device["capabilities"]) == ("nvidia", 1, ["gpu"])
    assert "8123" in json.dumps(service["ports"])
    assert service["labels"]["curfew.node-type"] == "FLUX Dev"
