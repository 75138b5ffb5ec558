"""Two Docker engines without a network: packages are built on the first and installed on the second."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from cloudnodes.packages.builder import Built, PackageBuilder, Request
from cloudnodes.packages.bundle import assemble
from cloudnodes.packages.format import NodeSpec
from cloudnodes.packages.images import EngineImages
from tests.fakes.dockerd import DockerEngine, DockerUnavailable
from tests.stack import free_port

SERVE = ["sh", "-c", "trap 'exit 0' TERM; httpd -f -p ${PORT:-8000} -h /www & wait"]


@dataclass
class Engine:
    """One engine with the helpers that tests need."""

    socket: str
    client: docker.APIClient
    made: list[str] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        return {"DOCKER_HOST": f"unix://{self.socket}", "PATH": os.environ["PATH"]}

    def image(self, tag: str, *files: tuple[str, bytes], command: list[str] | None = None, parent: str = "") -> None:
        """Build an image: one layer a file, on a base of busybox or on `parent`."""
        context = io.BytesIO()
        lines = [f"FROM {parent or self.base()}"]
        with tarfile.open(fileobj=context, mode="w") as tar:
            for number, (path, data) in enumerate(files):
                entry = tarfile.TarInfo(f"file{number}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
                lines.append(f"COPY file{number} {path}")
            lines.append(f"CMD {json.dumps(command or SERVE)}")
            text = "\n".join(lines).encode()
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
        context.seek(0)
        for line in self.client.build(fileobj=context, custom_context=True, tag=tag, decode=True, rm=True):
            assert "error" not in line, line
        self.made.append(tag)

    def base(self) -> str:
        from tests.fakes.dockerd import IMAGE, busybox_layer

        if not self.client.images(name=IMAGE):
            self.client.import_image_from_data(busybox_layer(), repository=IMAGE.partition(":")[0], tag="local")
        return IMAGE

    def tags(self) -> set[str]:
        return {tag for image in self.client.images() for tag in image["RepoTags"] or []}

    def remains(self) -> dict[str, Any]:
        """Everything that an installation could leave behind."""
        return {
            "containers": sorted(c["Names"][0] for c in self.client.containers(all=True)),
            "images": sorted(i["Id"] for i in self.client.images(all=True)),
            "tags": sorted(self.tags()),
            "networks": sorted(n["Name"] for n in self.client.networks()),
            "volumes": sorted(v["Name"] for v in self.client.volumes()["Volumes"] or []),
        }

    def clear(self) -> None:
        for container in self.client.containers(all=True):
            self.client.remove_container(container["Id"], force=True, v=True)
        for _ in range(3):
            for image in self.client.images():
                for name in [t for t in image["RepoTags"] or [] if t != "<none>:<none>"] or [image["Id"]]:
                    self.client.remove_image(name, force=True)


def _engine() -> Iterator[Engine]:
    try:
        with DockerEngine(own=True) as running:
            client = docker.APIClient(base_url=f"unix://{running.socket}", timeout=300)
            try:
                yield Engine(running.socket, client)
            finally:
                client.close()
    except DockerUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="package")
def workshop() -> Iterator[Engine]:
    """Where packages are built."""
    yield from _engine()


@pytest.fixture(scope="package")
def _station() -> Iterator[Engine]:
    yield from _engine()


@pytest.fixture
def station(_station: Engine) -> Iterator[Engine]:
    """The workstation: another engine with another data root; empty before and after each test."""
    _station.clear()
    yield _station
    _station.clear()


@pytest.fixture
def build(workshop: Engine, tmp_path: Path) -> Any:
    """Build a package: `build(node(...), ...)`."""

    def make(*nodes: NodeSpec, output: str = "package.zip", **options: Any) -> Built:
        return PackageBuilder(Request(nodes, tmp_path / output, **options), EngineImages(workshop.client)).build()

    return make


def node(name: str = "FLUX Dev", image: str = "studio/flux-dev:1.0", **options: Any) -> NodeSpec:
    """A node on the host's network: the test engines have no bridge."""
    settings = {"container_port": free_port(), "network": "host", **options}
    environment = {"PORT": str(settings["container_port"]), **settings.pop("environment", {})}
    return NodeSpec(name, image, environment=environment, **settings)


def pythons() -> list[str]:
    """This Python, and a 3.8 when the machine has one: the oldest that the installer promises."""
    places = [
        *sorted(Path.home().glob(".pyenv/versions/3.8.*/bin/python3")),
        Path("/usr/bin/python3.8"),
        Path("/usr/local/bin/python3.8"),
    ]
    return [sys.executable, *[str(place) for place in places if place.exists()][:1]]


@dataclass
class Installer:
    """The bundled install.py, run the way a workstation runs it."""

    engine: Engine
    script: Path
    home: Path
    python: str = sys.executable

    def __call__(self, *arguments: str, expect: int = 0, env: dict[str, str] | None = None) -> dict[str, Any]:
        """Run with --json; the report. Fails unless the exit code is the expected one."""
        done = self.run(*arguments, env=env)
        assert done.returncode == expect, f"exit {done.returncode}: {done.stdout} {done.stderr}"
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["exit_code"] == expect
        return found

    def run(self, *arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments), capture_output=True, text=True, timeout=120, env=self.environment(env)
        )

    def command(self, *arguments: str) -> list[str]:
        return [self.python, "-I", "-S", str(self.script), *arguments, "--home", str(self.home), "--json"]

    def environment(self, env: dict[str, str] | None = None) -> dict[str, str]:
        return {**self.engine.environment, "HOME": str(self.home.parent), **(env or {})}


@pytest.fixture
def install(station: Engine, tmp_path: Path) -> Installer:
    script = tmp_path / "install.py"
    script.write_bytes(assemble())
    return Installer(station, script, tmp_path / "home")
