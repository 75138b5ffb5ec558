"""What only Docker does."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from core.providers import (
    CapacityUnavailable,
)
from tests.contract.worlds import (
    RUNNING,
    STOPPED,
    DockerWorld,
)
from tests.fakes.dockerd import DockerEngine

pytestmark = pytest.mark.integration


@pytest.mark.docker
class TestDocker:
    """What only Docker does."""

    @pytest.fixture
    def docker(self, docker_engine: DockerEngine) -> Iterator[DockerWorld]:
        world = DockerWorld(docker_engine)
        yield world
        world.close()

    def test_a_paused_container_still_holds_its_memory(self, docker: DockerWorld) -> None:
        node, provider = docker.make("node"), docker.provider()
        provider.start(node, token="op-1")
        docker.client.containers.get(node).pause()
        instance = provider.describe([node])[node]
        assert (instance.state, instance.state_reason) == (RUNNING, "paused")
        provider.stop(node, token="op-2")
        assert provider.describe([node])[node].state is STOPPED

    def test_a_container_without_its_gpu(self, docker: DockerWorld) -> None:
        from docker.types import DeviceRequest

        container = docker.client.containers.create(
            docker.engine.busybox(),
            ["sleep", "9"],
            network_mode="none",
            labels={"curfew.node-type": "FLUX Dev"},
            device_requests=[DeviceRequest(driver="nvidia", count=-1, capabilities=[["gpu"]])],
        )
        docker.made.append(container.id)
        with pytest.raises(CapacityUnavailable) as caught:
            docker.provider().start(container.id, token="op-1")
        assert (caught.value.code, caught.value.transient) == ("no_gpu", False)

    def test_readiness_is_asked_of_the_service_itself(self, docker: DockerWorld) -> None:
        from tests.fakes.server import free_port

        port = free_port()
        container = docker.client.containers.create(
            docker.engine.busybox(),
            ["httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/bin"],
            network_mode="host",
            stop_signal="SIGKILL",
            labels={"curfew.node-type": "FLUX Dev", "curfew.port": str(port), "curfew.health-path": "/sh"},
        )
        docker.made.append(container.id)
        provider = docker.provider()
        assert provider.describe([container.id])[container.id].health_endpoint == "", (
            "a stopped container has no address"
        )
        provider.start(container.id, token="op-1")
        instance = provider.describe([container.id])[container.id]
        assert instance.endpoint == f"http://127.0.0.1:{port}"
        assert instance.health_endpoint == f"http://127.0.0.1:{port}/sh"
        deadline = time.monotonic() + 10
        while not provider.probe(instance.health_endpoint) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert provider.probe(instance.health_endpoint) is True
        assert provider.probe(f"http://127.0.0.1:{port}/missing") is False
        assert provider.probe(f"tcp://127.0.0.1:{port}") is True
        provider.stop(container.id, token="op-2")
        assert provider.probe(instance.health_endpoint) is False
