"""Packages on real engines: built on one, installed on another without a network, run, removed to zero remains."""

from __future__ import annotations

import os
import random
import shutil
import time
import urllib.request
import zipfile
from pathlib import Path
from typing import Any

import pytest

from accounts.providers.base import Credentials
from accounts.providers.registry import connect
from cloudnodes.packages.builder import PackageBuilder, Request
from cloudnodes.packages.images import EngineImages
from cloudnodes.packages.installer.state import Home, Lock
from cloudnodes.providers.docker import DockerNodeProvider
from tests.packages.conftest import Engine, Installer, node, pythons

pytestmark = [pytest.mark.integration, pytest.mark.docker]


@pytest.fixture(scope="module", autouse=True)
def _images(workshop: Engine) -> None:
    shared = os.urandom(400_000)
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"), ("/weights", shared))
    workshop.image("studio/flux-canny:1.0", ("/www/index.html", b"flux canny"), parent="studio/flux-dev:1.0")


def page(url: str) -> bytes:
    deadline = time.monotonic() + 20
    while True:
        try:
            return urllib.request.urlopen(url, timeout=2).read()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


@pytest.mark.parametrize("python", pythons())
def test_install_run_and_uninstall_to_zero_remains(
    build: Any, station: Engine, install: Installer, python: str
) -> None:
    built = build(node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    before = station.remains()
    install.python = python

    report = install("--package", str(built.path))

    assert [(n["name"], n["result"], n["profile"], n["running"]) for n in report["nodes"]] == [
        ("FLUX Canny", "installed", "cpu", False),
        ("FLUX Dev", "installed", "cpu", False),
    ]
    assert all(i["result"] == "loaded" for i in report["images"])
    assert {"studio/flux-dev:1.0", "studio/flux-canny:1.0"} <= station.tags()
    assert [c["State"] for c in station.client.containers(all=True)] == ["created", "created"]

    report = install("--package", str(built.path), "--start")
    assert [(n["result"], n["running"]) for n in report["nodes"]] == [("kept", True), ("kept", True)]
    assert page(report["nodes"][1]["endpoint"]) == b"flux dev"
    assert page(report["nodes"][0]["endpoint"]) == b"flux canny"

    report = install("uninstall")
    assert [n["result"] for n in report["nodes"]] == ["removed", "removed"]
    assert station.remains() == before
    assert not install.home.exists()


def test_a_flipped_bit_is_refused_before_anything_is_loaded(
    build: Any, station: Engine, install: Installer, tmp_path: Path
) -> None:
    whole = build(node()).path.read_bytes()
    before = station.remains()
    chance = random.Random(11)
    for _ in range(12):
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        (tmp_path / "flipped.zip").write_bytes(data)
        report = install("--package", str(tmp_path / "flipped.zip"), expect=3)
        assert report["error"]["code"]
    assert station.remains() == before
    assert not install.home.exists()


def test_a_dry_run_changes_nothing(build: Any, station: Engine, install: Installer) -> None:
    built = build(node())
    before = station.remains()
    report = install("--package", str(built.path), "--dry-run")
    assert [n["result"] for n in report["nodes"]] == ["would create"]
    assert [i["result"] for i in report["images"]] == ["would load"]
    assert station.remains() == before
    assert not install.home.exists()


def test_a_rebuild_on_the_other_engine_has_the_same_bytes(
    build: Any, station: Engine, install: Installer, tmp_path: Path
) -> None:
    nodes = (node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    built = build(*nodes)
    install("--package", str(built.path))
    again = PackageBuilder(Request(nodes, tmp_path / "again.zip"), EngineImages(station.client)).build()
    assert again.path.read_bytes() == built.path.read_bytes()


def test_tags_of_others_stay_theirs(build: Any, station: Engine, install: Installer) -> None:
    built = build(node())
    station.image("studio/flux-dev:1.0", ("/mine", b"somebody else's"))
    theirs = station.client.inspect_image("studio/flux-dev:1.0")["Id"]
    before = station.remains()

    report = install("--package", str(built.path), "--start")
    assert report["images"][0]["tag_kept"] is True
    assert station.client.inspect_image("studio/flux-dev:1.0")["Id"] == theirs
    assert page(report["nodes"][0]["endpoint"]) == b"flux dev"

    report = install("--package", str(built.path), "--force")
    assert report["images"][0]["tag_kept"] is False
    assert station.client.inspect_image("studio/flux-dev:1.0")["Id"] != theirs
    assert theirs in {station.client.inspect_image(t)["Id"] for t in station.tags()}

    install("uninstall")
    assert station.remains() == before
    assert station.client.inspect_image("studio/flux-dev:1.0")["Id"] == theirs


def test_images_that_were_there_stay(build: Any, workshop: Engine, station: Engine, install: Installer) -> None:
    built = build(node())
    station.client.load_image(b"".join(workshop.client.get_image("studio/flux-dev:1.0")))
    before = station.remains()
    report = install("--package", str(built.path))
    assert report["images"][0]["result"] == "present"
    install("uninstall")
    assert station.remains() == before


def test_containers_of_others_stay_theirs(build: Any, station: Engine, install: Installer) -> None:
    built = build(node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    station.client.create_container(
        station.base(),
        ["sleep", "60"],
        name="curfew-flux-dev",
        host_config=station.client.create_host_config(network_mode="host"),
    )
    theirs = station.client.inspect_container("curfew-flux-dev")["Id"]
    before = station.remains()
    report = install("--package", str(built.path), "--force", expect=1)
    assert [(n["slug"], n["result"], n["code"]) for n in report["nodes"]] == [
        ("flux-canny", "installed", ""),
        ("flux-dev", "failed", "name_taken"),
    ]
    assert [i["reference"] for i in report["images"]] == ["studio/flux-canny:1.0"]
    install("uninstall")
    assert station.client.inspect_container("curfew-flux-dev")["Id"] == theirs
    assert station.remains() == before


def test_repair_puts_back_what_is_missing(build: Any, station: Engine, install: Installer) -> None:
    built = build(node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    install("repair", "--package", str(built.path), expect=2)
    install("--package", str(built.path), "--start")
    station.client.remove_container("curfew-flux-dev", force=True)
    (install.home / "nodes/flux-canny/compose.yml").unlink()
    station.client.remove_image("studio/flux-dev:1.0")
    assert install("status", expect=1)["nodes"][0]["result"] == "running"

    report = install("repair", "--package", str(built.path))
    assert [(n["slug"], n["result"], n["running"]) for n in report["nodes"]] == [
        ("flux-canny", "kept", True),
        ("flux-dev", "repaired", False),
    ]
    assert "studio/flux-dev:1.0" in station.tags()
    assert (install.home / "nodes/flux-canny/compose.yml").exists()
    assert [n["result"] for n in install("status")["nodes"]] == ["running", "created"]
    # nothing to do: nothing is done
    ids = {c["Id"] for c in station.client.containers(all=True)}
    install("repair", "--package", str(built.path))
    assert {c["Id"] for c in station.client.containers(all=True)} == ids


def test_one_node_of_several_and_another_port(build: Any, station: Engine, install: Installer) -> None:
    built = build(node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    before = station.remains()
    report = install("--package", str(built.path), "--node", "FLUX Canny")
    assert [n["slug"] for n in report["nodes"]] == ["flux-canny"]
    assert install("--package", str(built.path), "--node", "SDXL", expect=2)["error"]["code"] == "unknown_node"
    install("--package", str(built.path))
    install("uninstall", "--node", "flux-canny")
    assert install("uninstall", "--node", "flux-canny", expect=2)["error"]["code"] == "unknown_node"
    assert [c["Names"] for c in station.client.containers(all=True)] == [["/curfew-flux-dev"]]
    assert "studio/flux-canny:1.0" not in station.tags()
    install("uninstall")
    assert station.remains() == before


def test_credentials_come_from_the_workstation_only(build: Any, station: Engine, install: Installer) -> None:
    built = build(node(credentials=("NGC_API_KEY",)))
    report = install("--package", str(built.path))
    assert report["nodes"][0]["credentials_missing"] == ["NGC_API_KEY"]
    report = install("repair", "--package", str(built.path), env={"NGC_API_KEY": "nvapi-very-secret"})
    assert report["nodes"][0]["credentials_missing"] == []
    assert report["nodes"][0]["result"] == "upgraded"
    first = station.client.inspect_container("curfew-flux-dev")
    assert "NGC_API_KEY=nvapi-very-secret" in first["Config"]["Env"]
    # a later run without it keeps the one that the container has
    install("repair", "--package", str(built.path))
    assert station.client.inspect_container("curfew-flux-dev")["Id"] == first["Id"]
    assert not [p for p in install.home.rglob("*") if p.is_file() and b"nvapi-very-secret" in p.read_bytes()]


def test_a_node_that_does_not_stay_up_is_reported_with_its_words(
    build: Any, workshop: Engine, install: Installer
) -> None:
    workshop.image("studio/broken:1", ("/x", b"x"), command=["sh", "-c", "echo no weights found; exit 3"])
    built = build(node(), node("Broken", "studio/broken:1"))
    report = install("--package", str(built.path), "--start", expect=1)
    assert [(n["slug"], n["result"], n["running"]) for n in report["nodes"]] == [
        ("broken", "failed", False),
        ("flux-dev", "installed", True),
    ]
    assert "no weights found" in report["nodes"][0]["message"]


def test_an_unpacked_package_installs_itself(build: Any, station: Engine, install: Installer, tmp_path: Path) -> None:
    built = build(node())
    with zipfile.ZipFile(built.path) as archive:
        archive.extractall(tmp_path / "folder")
    install.script = tmp_path / "folder/install.py"
    assert install()["nodes"][0]["result"] == "installed"


def test_two_at_once(build: Any, install: Installer) -> None:
    built = build(node())
    with Lock(Home(str(install.home))):
        assert install("--package", str(built.path), expect=6)["error"]["code"] == "busy"
    install("--package", str(built.path))


def test_what_was_installed_is_found_by_curfew(build: Any, station: Engine, install: Installer) -> None:
    spec = node(gpu_tier="a10g", health_path="/index.html")
    install("--package", str(build(spec).path), "--start")
    connection = connect(Credentials("docker", "local", "", {"socket": station.socket}))
    (found,) = DockerNodeProvider(connection).discover()
    assert (found.node_type, found.gpu_tier, found.endpoint) == (
        "FLUX Dev",
        "cpu",
        f"http://127.0.0.1:{spec.container_port}",
    )
    assert DockerNodeProvider(connection).probe(found.health_endpoint) is True


def test_left_behind_without_its_folder(build: Any, station: Engine, install: Installer) -> None:
    """The folder was deleted by hand: another installation needs --force. A name that may be somebody's own stays."""
    before = station.remains()
    built = build(node())
    install("--package", str(built.path))
    shutil.rmtree(install.home)
    assert install("--package", str(built.path), expect=1)["nodes"][0]["code"] == "name_taken"
    assert install("--package", str(built.path), "--force")["nodes"][0]["result"] == "installed"
    install("uninstall")
    assert station.remains()["containers"] == before["containers"]
    assert station.tags() == {"studio/flux-dev:1.0"}
