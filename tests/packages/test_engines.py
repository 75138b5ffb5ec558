"""Packages on real engines: built on one, installed on another without a network, run, removed to zero remains."""

from __future__ import annotations

import os
import time
import urllib.request
from typing import Any

import pytest

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
def test_install_run_and_uninstall_to_zero_remains(build: Any, station: Engine, install: Installer, python: str) -> None:
    built = build(node(), node("FLUX Canny", "studio/flux-canny:1.0"))
    before = station.remains()
    install.python = python

    report = install("--package", str(built.path))

    assert [(n["name"], n["result"], n["profile"], n["running"]) for n in report["nodes"]] == [
        ("FLUX Canny", "installed", "cpu", False), ("FLUX Dev", "installed", "cpu", False)
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
