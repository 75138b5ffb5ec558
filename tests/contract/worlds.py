"""Four clouds to hold the node contract against: how nodes are made behind a provider's back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from typing import Any

from cloudnodes.providers.base import InstanceState, NodeProvider
from cloudnodes.providers.registry import provider_for
from core.providers import (
    ProviderError,
)
from tests.contract import connections as to
from tests.fakes.arm import SUBSCRIPTION, FakeArm
from tests.fakes.aws import SandboxAws
from tests.fakes.dockerd import DockerEngine
from tests.fakes.gcp import PARENT, FakeCloudRun
from tests.fakes.server import Certificates

RUNNING, STOPPED, GONE = InstanceState.RUNNING, InstanceState.STOPPED, InstanceState.GONE


class World(ABC):
    """One cloud of the contract: makes nodes behind the provider's back and opens fresh connections."""

    @abstractmethod
    def provider(self) -> NodeProvider:
        """Return a provider on a new connection, as another process would make it."""

    @abstractmethod
    def make(self, name: str, *, tagged: bool = True) -> str:
        """Make a stopped node, of type FLUX Dev and tier t4 when tagged; returns its provider id."""

    @abstractmethod
    def delete(self, provider_id: str) -> None:
        """Delete a node."""

    @abstractmethod
    def never_was(self) -> str:
        """Return a well-formed id of nothing."""

    @abstractmethod
    def orders(self, verb: str) -> int:
        """Return how many start or stop orders reached the cloud and were accepted as a change."""


class DockerWorld(World):
    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine
        self.client = engine.client()
        self.made: list[str] = []
        self.connections: list[Any] = []

    def provider(self) -> NodeProvider:
        self.connections.append(to.docker_local(self.engine.socket))
        return provider_for(self.connections[-1])

    def make(self, name: str, *, tagged: bool = True) -> str:
        labels = (
            {"curfew.node-type": "FLUX Dev", "curfew.gpu-tier": "T4", "curfew.hourly-cost": "0.25"}
            if tagged
            else {"other": "label"}
        )
        # PID 1 ignores signals it has no handler for: the trap makes stopping quick.
        command = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"]
        container = self.client.containers.create(
            self.engine.busybox(),
            command,
            name=f"curfew-contract-{name}-{time.monotonic_ns()}",
            labels=labels,
            network_mode="none",
        )
        self.made.append(container.id)
        return str(container.id)

    def delete(self, provider_id: str) -> None:
        self.client.containers.get(provider_id).remove(force=True)

    def never_was(self) -> str:
        return "f" * 64

    def orders(self, verb: str) -> int:
        kind = {"start": "start", "stop": "die"}[verb]
        events = self.client.api.events(
            since=0, until=int(time.time()) + 1, decode=True, filters={"event": kind, "container": self.made[0]}
        )
        return len(list(events))

    def close(self) -> None:
        for provider_id in self.made:
            for container in self.client.containers.list(all=True, filters={"id": provider_id}):
                container.remove(force=True)
        self.client.close()
        for connection in self.connections:
            connection.close()


class AwsWorld(World):
    def __init__(self, server: SandboxAws) -> None:
        self.server = server
        server.launch_role("curfew-7d1f0c2b9a", account_id="222222222222")
        self.made: list[str] = []

    def provider(self) -> NodeProvider:
        account = "arn:aws:iam::222222222222:role/CurfewAccess"
        return provider_for(
            to.aws_role(self.server, region="us-west-2", role_arn=account, aws_account_id="222222222222")
        )

    def make(self, name: str, *, tagged: bool = True) -> str:
        tags = {"Name": name} | (
            {"curfew:node-type": "FLUX Dev", "curfew:gpu-tier": "T4", "curfew:hourly-cost": "0.25"} if tagged else {}
        )
        made: str = self.server.call(
            "POST",
            "/_sandbox/instance",
            {"account_id": "222222222222", "region": "us-west-2", "instance_type": "g4dn.xlarge", "tags": tags},
        )["instance_id"]
        self.made.append(made)
        return made

    def delete(self, provider_id: str) -> None:
        self.server.call(
            "DELETE",
            "/_sandbox/instance",
            {"account_id": "222222222222", "region": "us-west-2", "instance_id": provider_id},
        )

    def never_was(self) -> str:
        return "i-0123456789abcdef0"

    def orders(self, verb: str) -> int:
        action = {"start": "StartInstances", "stop": "StopInstances"}[verb]
        return int(self.server.call("GET", "/_sandbox/changes").get(f"{action}/{self.made[0]}", 0))

    def close(self) -> None:
        for made in self.made:
            self.delete(made)


class ArmWorld(World):
    def __init__(self, server: FakeArm, certificates: Certificates) -> None:
        self.server, self.certificates = server, certificates

    def provider(self) -> NodeProvider:
        return provider_for(to.azure_of(self.server, self.certificates))

    def make(self, name: str, *, tagged: bool = True) -> str:
        tags = (
            {"curfew:node-type": "FLUX Dev", "curfew:gpu-tier": "T4", "curfew:hourly-cost": "0.25"}
            if tagged
            else {"other": "tag"}
        )
        return self.server.add(name, tags=tags).id

    def delete(self, provider_id: str) -> None:
        del self.server.machines[provider_id.lower()]

    def never_was(self) -> str:
        return (
            f"/subscriptions/{SUBSCRIPTION}/resourceGroups/studio/providers/Microsoft.Compute/virtualMachines/never-was"
        )

    def orders(self, verb: str) -> int:
        return len(
            [
                r
                for r in self.server.log
                if r.method == "POST" and r.path.endswith({"start": "/start", "stop": "/deallocate"}[verb])
            ]
        )


class CloudRunWorld(World):
    def __init__(self, server: FakeCloudRun) -> None:
        self.server = server

    def provider(self) -> NodeProvider:
        return provider_for(to.gcp_of(self.server))

    def make(self, name: str, *, tagged: bool = True) -> str:
        labels = {"curfew-node-type": "flux-dev", "curfew-gpu-tier": "t4"} if tagged else {"other": "label"}
        annotations = {"curfew.node-type": "FLUX Dev", "curfew.hourly-cost": "0.25"} if tagged else {}
        return self.server.add(name, manual=0, labels=labels, annotations=annotations)

    def delete(self, provider_id: str) -> None:
        del self.server.services[provider_id]

    def never_was(self) -> str:
        return f"{PARENT}/services/never-was"

    def orders(self, verb: str) -> int:
        wanted = {"start": lambda n: n > 0, "stop": lambda n: n == 0}[verb]
        return len([b for _, b in self.server.patches if wanted(b["scaling"].get("manualInstanceCount", 0))])


def wait_for(
    provider: NodeProvider, provider_id: str, state: InstanceState, seconds: float = 20.0
) -> list[InstanceState]:
    """Describe until the node is in `state`; returns every state seen on the way."""
    seen: list[InstanceState] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        now = provider.describe([provider_id])[provider_id].state
        if not seen or seen[-1] is not now:
            seen.append(now)
        if now is state:
            return seen
        time.sleep(0.1)
    raise AssertionError(f"not {state} after {seconds} s, but {seen}")


def follow(provider: NodeProvider, continuation: str, seconds: float = 20.0) -> ProviderError | None:
    """Check until done; returns the error it ended with."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        progress = provider.check(continuation)
        if progress.done:
            return progress.error
        assert progress.words
        assert progress.error is None
        time.sleep(0.1)
    raise AssertionError(f"not done after {seconds} s")
