"""The outside world of the contract tests: real Docker, moto over HTTP, and fakes of ARM and Cloud Run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fakes.arm import FakeArm
from tests.fakes.aws import SandboxAws
from tests.fakes.dockerd import DockerEngine, DockerUnavailable
from tests.fakes.gcp import FakeCloudRun
from tests.fakes.server import Certificates, Hangs, make_certificates


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder: Path = tmp_path_factory.mktemp("certificates")
    return make_certificates(folder)


@pytest.fixture(scope="session")
def aws_server() -> Iterator[SandboxAws]:
    with SandboxAws(seed=True) as server:
        yield server


@pytest.fixture
def aws(aws_server: SandboxAws) -> Iterator[SandboxAws]:
    """The sandbox AWS without planned failures and without Curfew's role."""
    aws_server.heal()
    aws_server.delete_role()
    yield aws_server
    aws_server.heal()


@pytest.fixture
def arm(certificates: Certificates) -> Iterator[FakeArm]:
    with FakeArm(tls=certificates.server) as server:
        yield server


@pytest.fixture
def cloud_run() -> Iterator[FakeCloudRun]:
    with FakeCloudRun() as server:
        yield server


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    try:
        with DockerEngine() as engine:
            engine.busybox()
            yield engine
    except DockerUnavailable as reason:
        pytest.skip(f"Docker cannot run here: {reason}")


@pytest.fixture
def hangs() -> Iterator[Hangs]:
    with Hangs() as server:
        yield server
