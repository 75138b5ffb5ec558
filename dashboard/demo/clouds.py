"""Connecting the demo's clouds through the ordinary services: the sandbox AWS account, and the local Docker engine."""

from __future__ import annotations

import io
import logging
import shutil
import tarfile
from pathlib import Path
from typing import Any

import httpx

from accounts import sandbox
from accounts import services as accounts_services
from accounts.models import CloudAccount, Organization
from cloudnodes import gateway, services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from core.actor import Actor
from core.errors import CurfewError
from core.providers import ProviderError
from core.sleepable import SleepState
from operations import runner
from operations.enums import ACTIVE
from operations.models import Operation

log = logging.getLogger(__name__)
IMAGE = "curfew-demo"
CONTAINER = "curfew-demo-lantern"
LABELS = {"curfew.node-type": "Lantern", "curfew.gpu-tier": "cpu", "curfew.owner": "demo"}


def sandbox_account(organization: Organization) -> CloudAccount | None:
    return CloudAccount.objects.for_org(organization).filter(is_sandbox=True).exclude(method="").first()


def connect_sandbox(actor: Actor, organization: Organization) -> CloudAccount | None:
    """The organization's sandbox account, connected now if it is not; None, with the reason logged, when it cannot be."""
    known = sandbox_account(organization)
    if known:
        return known
    try:
        return accounts_services.connect_sandbox(actor=actor)
    except (CurfewError, ProviderError, httpx.HTTPError) as refused:
        log.warning("demo_sandbox_not_connected", extra={"reason": str(refused)})
        return None


def scan_now(organization: Organization) -> int:
    """Run the scans that connecting has ordered, here and now; returns how many nodes there are."""
    for operation_id in (
        Operation.objects.for_org(organization)
        .filter(kind="account.scan", status__in=ACTIVE)
        .values_list("id", flat=True)
    ):
        runner.run_operation(operation_id)
    return CloudNode.objects.for_org(organization).filter(gone_at=None).count()


def instances_of(account: CloudAccount) -> dict[str, Instance]:
    """What the account's provider shows now, by the provider's id; {} when it does not answer."""
    try:
        found = gateway.open_provider(account, account.region).discover()
    except ProviderError as silent:
        log.info("demo_sandbox_silent", extra={"reason": silent.message})
        return {}
    return {instance.provider_id: instance for instance in found}


def wake_after_restart(account: CloudAccount) -> int:
    """Start again what the rows say, when the sandbox has begun anew (its file did not fit) and everything in it sleeps.

    Returns how many were started."""
    try:
        if not sandbox.has_begun_anew():
            return 0
    except ProviderError:  # not up yet: this runs once more when it is
        return 0
    there = instances_of(account)
    nodes = list(
        CloudNode.objects.for_org(account.organization_id)
        .filter(account=account, gone_at=None)
        .select_related("node_type")
    )
    if there and not any(node.provider_id in there for node in nodes):
        services.sync_discovered(account=account, instances=list(there.values()))
        return 0
    started = 0
    for node in nodes:
        instance = there.get(node.provider_id)
        if instance is None or instance.state is not InstanceState.STOPPED or node.observed_state != SleepState.AWAKE:
            continue
        try:
            gateway.open_provider(account, node.region).start(node.provider_id, token=str(node.id))
            started += 1
        except ProviderError as refused:
            log.warning("demo_node_not_woken", extra={"node": node.instance_name, "reason": refused.message})
    return started


def connect_docker(organization: Organization, socket: str) -> bool:
    """Connect the local engine with one small container, when an engine answers there. Nothing is pulled."""
    path = Path(socket.removeprefix("unix://"))
    if not socket.startswith("unix://") or not path.is_socket():
        return False
    if CloudAccount.objects.for_org(organization).filter(provider="docker").exclude(method="").exists():
        return True
    try:
        _ensure_container(socket)
        accounts_services.connect_account(
            actor=Actor.system("demo", organization.id),
            provider="docker",
            method="local",
            name="This machine",
            values={"socket": str(path)},
        )
    except (CurfewError, ProviderError, OSError) as refused:
        log.info("demo_docker_not_connected", extra={"reason": str(refused)})
        return False
    return True


def _ensure_container(socket: str) -> None:
    """A stopped container of an image imported from a tar of this machine's static busybox."""
    import docker
    from docker.errors import DockerException, NotFound

    try:
        client = docker.APIClient(base_url=socket, version="auto", timeout=10)
        try:
            try:
                client.inspect_container(CONTAINER)
                return
            except NotFound:
                pass  # the usual case: it is made now
            if not client.images(name=IMAGE):
                client.import_image_from_data(_root_filesystem(), repository=IMAGE, tag="latest")
            client.create_container(
                f"{IMAGE}:latest", command=["/bin/busybox", "sleep", "2147483647"], name=CONTAINER, labels=LABELS
            )
        finally:
            client.close()
    except DockerException as refused:
        raise OSError(str(refused)) from refused


def _root_filesystem() -> bytes:
    """A tar with busybox alone. Raises OSError when this machine has none that is statically linked."""
    program = shutil.which("busybox")
    if program is None:
        raise OSError("busybox is not installed; the demo goes without a local container")
    content = Path(program).read_bytes()
    if b"/ld-linux" in content[:8192] or b"/ld-musl" in content[:8192]:
        raise OSError("busybox is not statically linked; the demo goes without a local container")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("tmp", 0o1777)):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, mode
            tar.addfile(folder)
        file: Any = tarfile.TarInfo("bin/busybox")
        file.size, file.mode = len(content), 0o755
        tar.addfile(file, io.BytesIO(content))
    return packed.getvalue()
