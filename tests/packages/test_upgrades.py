"""Upgrades on real engines: only the new layers travel, what runs goes on running, and a failure puts the old one back."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cloudnodes.packages.builder import Built
from cloudnodes.packages.format import NodeSpec
from cloudnodes.packages.installer.actions import Installation, Options
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.upgrade import read_base
from tests.packages.conftest import Engine, Installer, node
from tests.packages.test_engines import page

pytestmark = [pytest.mark.integration, pytest.mark.docker]


@pytest.fixture(scope="module", autouse=True)
def _images(workshop: Engine) -> None:
    workshop.image("studio/base:1", ("/weights", os.urandom(3_000_000)))
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"version 1"), parent="studio/base:1")
    workshop.image("studio/flux-dev:1.1", ("/www/index.html", b"version 2"), parent="studio/base:1")
    workshop.image(
        "studio/flux-dev:broken",
        ("/www/index.html", b"version 3"),
        parent="studio/base:1",
        command=["sh", "-c", "exit 7"],
    )


@pytest.fixture
def spec() -> NodeSpec:
    return node()


@pytest.fixture
def packages(build: Any, spec: NodeSpec) -> tuple[Built, Built, Built]:
    """Version 1, version 2 whole, and version 2 as an upgrade of version 1."""
    newer = node(image="studio/flux-dev:1.1", container_port=spec.container_port)
    first = build(spec, output="one.zip")
    return first, build(newer, output="two.zip"), build(newer, output="upgrade.zip", base=read_base(first.path))


def test_one_layer_changed(packages: tuple[Built, Built, Built], station: Engine, install: Installer) -> None:
    first, full, upgrade = packages
    assert upgrade.size < 0.2 * full.size
    before = station.remains()
    install("--package", str(first.path), "--start")

    report = install("upgrade", "--package", str(upgrade.path))

    (line,) = report["nodes"]
    assert (line["result"], line["running"]) == ("upgraded", True)
    assert page(line["endpoint"]) == b"version 2"
    assert report["removed_images"] == ["studio/flux-dev:1.0"]
    assert "studio/flux-dev:1.0" not in station.tags()
    assert install("status")["nodes"][0]["package"] == upgrade.manifest_sha256
    install("uninstall")
    assert station.remains() == before


def test_without_its_base_nothing_is_changed(
    packages: tuple[Built, Built, Built], station: Engine, install: Installer
) -> None:
    before = station.remains()
    assert install("--package", str(packages[2].path), expect=5)["error"]["code"] == "base_missing"
    assert station.remains() == before
    assert not install.home.exists()


def test_a_store_without_chains_gets_whole_archives(
    packages: tuple[Built, Built, Built], station: Engine, install: Installer
) -> None:
    """With containerd's store an archive must hold every layer: those that did not travel come from the old image."""

    class ContainerdStore(Docker):
        def keeps_chains(self) -> bool:
            return False

    first, _, upgrade = packages
    install("--package", str(first.path))
    docker = ContainerdStore(settings=station.environment)
    run = Installation(Options("upgrade", str(upgrade.path), str(install.home)), docker)
    assert [sorted(need.absent) for need in run.needs.values()] == [sorted(_omitted(upgrade))]
    assert run.needs["studio/flux-dev:1.1"].leave_out == set()
    assert [n["result"] for n in run.run()["nodes"]] == ["upgraded"]


def _omitted(built: Built) -> set[str]:
    from cloudnodes.packages.installer.contents import open_source, read_manifest

    return {
        layer.diff_id
        for image in read_manifest(open_source(str(built.path))).images.values()
        for layer in image.layers
        if layer.file is None
    }


def test_one_that_does_not_start_is_rolled_back(
    build: Any, packages: tuple[Built, Built, Built], spec: NodeSpec, station: Engine, install: Installer
) -> None:
    install("--package", str(packages[0].path), "--start")
    old = station.client.inspect_container("curfew-flux-dev")
    broken = build(node(image="studio/flux-dev:broken", container_port=spec.container_port), output="broken.zip")

    report = install("upgrade", "--package", str(broken.path), expect=1)

    assert (report["nodes"][0]["result"], report["nodes"][0]["running"]) == ("failed", True)
    now = station.client.inspect_container("curfew-flux-dev")
    assert now["Id"] == old["Id"]
    assert page(f"http://localhost:{spec.container_port}") == b"version 1"
    assert [c["Names"] for c in station.client.containers(all=True)] == [["/curfew-flux-dev"]]
    assert "studio/flux-dev:broken" not in station.tags()


def test_a_key_once_trusted_is_held_to(build: Any, spec: NodeSpec, install: Installer) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from cloudnodes.packages.signing import public_hex

    key, other = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    ours, theirs, bare = (
        build(spec, output="a.zip", key=key),
        build(spec, output="b.zip", key=other),
        build(spec, output="c.zip"),
    )
    assert install("--package", str(bare.path), "--require-signature", expect=3)["error"]["code"] == "unsigned"
    assert install("--package", str(ours.path), "--public-key", public_hex(key))["package"]["signature"] == "trusted"
    for package in (theirs, bare):
        assert install("repair", "--package", str(package.path), expect=3)["error"]["code"] == "key_changed"
    install("repair", "--package", str(ours.path))


# What engines of other kinds say, put into the mouth of the real one.


@pytest.fixture
def docker_that_says(tmp_path: Path) -> Any:
    def make(**changes: Any) -> str:
        """A docker command whose `info` is changed; everything else is the real engine's."""
        script = tmp_path / "docker-wrapper"
        script.write_text(
            "#!/usr/bin/env python3\nimport json, os, subprocess, sys\n"
            "if sys.argv[1] == 'info':\n"
            "    facts = json.loads(subprocess.check_output(['docker', *sys.argv[1:]]))\n"
            f"    facts.update({changes!r})\n"
            "    print(json.dumps(facts))\nelse:\n    os.execvp('docker', ['docker', *sys.argv[1:]])\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IEXEC)
        return str(script)

    return make


def test_where_docker_promises_a_gpu_but_has_none(
    packages: tuple[Built, Built, Built], station: Engine, install: Installer, docker_that_says: Any
) -> None:
    program = docker_that_says(Runtimes={"nvidia": {}, "runc": {}})
    report = install("--package", str(packages[0].path), "--docker", program)
    assert report["nodes"][0]["profile"] == "gpu"
    (request,) = station.client.inspect_container("curfew-flux-dev")["HostConfig"]["DeviceRequests"]
    assert (request["Count"], request["Capabilities"]) == (1, [["gpu"]])

    report = install("--package", str(packages[0].path), "--docker", program, "--start")
    assert (report["nodes"][0]["profile"], report["nodes"][0]["running"]) == ("cpu", True)
    assert "no GPU" in report["warnings"][0]
    assert not station.client.inspect_container("curfew-flux-dev")["HostConfig"]["DeviceRequests"]


def test_a_gpu_that_was_insisted_on_is_an_error(packages: tuple[Built, Built, Built], install: Installer) -> None:
    report = install("--package", str(packages[0].path), "--gpu", "yes", "--start", expect=1)
    assert "could not select device driver" in report["nodes"][0]["message"]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"ServerVersion": "19.03.15"}, "docker_old"),
        ({"Architecture": "aarch64"}, "wrong_platform"),
        ({"OSType": "windows"}, "wrong_platform"),
        ({"ServerErrors": ["Cannot connect to the Docker daemon"]}, "docker_down"),
    ],
)
def test_engines_that_cannot_be_used(
    packages: tuple[Built, Built, Built],
    station: Engine,
    install: Installer,
    docker_that_says: Any,
    facts: dict[str, Any],
    code: str,
) -> None:
    before = station.remains()
    report = install("--package", str(packages[0].path), "--docker", docker_that_says(**facts), expect=4)
    assert report["error"]["code"] == code
    assert station.remains() == before
    assert not install.home.exists()


def test_no_docker_at_all(packages: tuple[Built, Built, Built], install: Installer) -> None:
    assert (
        install("--package", str(packages[0].path), "--docker", "/nowhere/docker", expect=4)["error"]["code"]
        == "no_docker"
    )
    done = install("--package", str(packages[0].path), expect=4, env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert done["error"]["code"] == "docker_down"


def test_the_words_for_people(packages: tuple[Built, Built, Built], install: Installer) -> None:
    import subprocess

    command = [part for part in install.command("--package", str(packages[0].path)) if part != "--json"]
    done = subprocess.run(command, capture_output=True, text=True, env=install.environment())
    assert done.returncode == 0
    assert "not signed" in done.stdout
    assert "FLUX Dev: installed (cpu, http://localhost:" in done.stdout
    assert json.loads((install.home / "installed.json").read_text())["nodes"]["flux-dev"]["profile"] == "cpu"
