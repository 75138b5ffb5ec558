"""Install packages in a real browser and on a real Docker engine: built, upgraded, installed, refused when damaged."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest

from tests.e2e.test_automatic import Open, enter, looked_at, says
from tests.fakes.dockerd import DockerEngine, DockerUnavailable
from tests.live.server import Embedded
from tests.packages.conftest import Engine

pytestmark = [pytest.mark.e2e, pytest.mark.docker, pytest.mark.slow, pytest.mark.timeout(600)]
PATIENCE = 120_000
OWNER = "gwen@studio.test"
IMAGE = "studio/flux-dev"


@pytest.fixture(scope="module")
def workshop() -> Iterator[Engine]:
    try:
        with DockerEngine(own=True) as running:
            client = docker.APIClient(base_url=f"unix://{running.socket}", timeout=300)
            engine = Engine(running.socket, client)
            engine.image(f"{IMAGE}:1.0", ("/weights", os.urandom(90_000_000)))
            engine.image(f"{IMAGE}:1.1", ("/www/index.html", b"newer"), parent=f"{IMAGE}:1.0")
            yield engine
            client.close()
    except DockerUnavailable as why:
        pytest.skip(str(why))


@pytest.fixture(scope="module")
def server(workshop: Engine) -> Iterator[Embedded]:
    with Embedded(CURFEW_DOCKER_HOST=f"unix://{workshop.socket}") as curfew:
        api = curfew.member("Studio", OWNER)
        told = {"provider": "docker", "method": "local", "name": "Workshop"}
        curfew.manage("shell", "-c", "from accounts.models import User; User.objects.update(is_staff=True)")
        connected = api.post("/api/client/accounts/connect", told)
        assert connected.status_code in (200, 201, 202), connected.text
        yield curfew


def asked(page: Any, title: str, image: str, base: str = "") -> None:
    """Fill in the form and send it."""
    page.goto("/cloud-nodes/packages/")
    page.fill("[name=other_name]", "FLUX Dev")
    page.fill("[name=other_image]", image)
    page.fill("[name=title]", title)
    page.uncheck("[name=pull]")
    if base:
        page.select_option("[name=base]", label=base)
    page.locator("#new").get_by_role("button", name="Create Local Install Package").click()


def test_built_upgraded_and_refused_when_damaged(open_browser: Open, server: Embedded, tmp_path: Path) -> None:
    page, wrong = enter(open_browser(), OWNER), []
    asked(page, "Flux for the barn", "Not An Image!")
    says(page, "#new", "Not An Image!")
    assert page.input_value("[name=other_name]") == "FLUX Dev"
    assert page.input_value("[name=title]") == "Flux for the barn"
    wrong += looked_at(page, "package-refused")

    asked(page, "Flux for the barn", f"{IMAGE}:1.0")
    page.wait_for_url("**/packages/*/")
    seen = set()
    end = "() => document.querySelector('#package').innerText.includes('Built in')"
    for _ in range(600):
        if page.evaluate(end):
            break
        bar = page.locator("#package progress")
        seen.add(bar.get_attribute("value") if bar.count() else None)
        page.wait_for_timeout(100)
    says(page, "#package", "Built in", PATIENCE)
    assert len(seen - {None}) >= 3, f"it told of its progress only {seen}"
    wrong += looked_at(page, "package")
    with page.expect_download() as taken:
        page.get_by_role("link", name="Download").click()
    whole = tmp_path / "flux.zip"
    taken.value.save_as(whole)

    asked(page, "Flux, newer", f"{IMAGE}:1.1", base="Flux for the barn")
    page.wait_for_url("**/packages/*/")
    says(page, "#package", "Built in", PATIENCE)
    says(page, "#package", "Upgrade package of FLUX Dev")
    wrong += looked_at(page, "package-upgrade")

    page.get_by_role("link", name="Flux for the barn").first.click()
    says(page, "h1", "Flux for the barn")
    (stored,) = server.folder.glob("**/flux-for-the-barn.zip")
    spoil(stored)
    page.get_by_role("button", name="Install here").click()
    says(page, "#here", "damaged", PATIENCE)
    says(page, "#here", "build the package again")
    wrong += looked_at(page, "package-damaged")

    spoil(whole)
    with zipfile.ZipFile(whole) as archive:
        script = archive.extract("install.py", tmp_path)
    told = subprocess.run(
        [sys.executable, script, "--package", str(whole)], capture_output=True, text=True, cwd=tmp_path
    )
    assert told.returncode != 0
    assert "damaged" in told.stdout + told.stderr
    page.get_by_role("button", name="Delete the file").click()
    says(page, "dialog[open]", "Delete the file of this package?")
    page.get_by_role("dialog").get_by_role("button", name="Delete the file").click()
    says(page, "#package", "File deleted")
    assert page.get_by_role("button", name="Install here again").count() == 0
    assert wrong == []


def spoil(archive: Path) -> None:
    """Turn one byte of the largest file inside."""
    with zipfile.ZipFile(archive) as told:
        largest = max(told.infolist(), key=lambda one: one.file_size)
    with archive.open("r+b") as file:
        file.seek(largest.header_offset + 1_000_000)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))
