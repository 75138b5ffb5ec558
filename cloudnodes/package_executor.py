"""What the operations `package.build` and `package.install` do."""

from __future__ import annotations

import errno
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts import vault
from accounts.models import CloudAccount
from cloudnodes import package_selectors as selectors
from cloudnodes import package_services as services
from cloudnodes.package_selectors import INSTALL_KIND, KIND, MANIFEST_COPY, RESOURCE
from cloudnodes.packages import catalog
from cloudnodes.packages.builder import PackageBuilder, Request, shape_of
from cloudnodes.packages.format import PackageProblem
from cloudnodes.packages.images import EngineImages
from cloudnodes.packages.installer import actions
from cloudnodes.packages.installer.archive import MANIFEST
from cloudnodes.packages.installer.contents import open_source, read_small
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.installer.problems import REFUSED, InstallProblem
from cloudnodes.packages.signing import load_or_create_key
from cloudnodes.packages.upgrade import base_from_manifest
from core import hooks
from core.actor import Actor
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext

# What is installed here was built here: unlike on a workstation, there is nothing to copy again.
STORED_WRONG = "The file that Curfew keeps is not what was built: delete it, and build the package again."
# An engine writes an image to its own disk before the first byte comes.
READ_SECONDS = 3600.0
# After this long a build gives its thread back between two images, well before a worker would be stopped.
TURN_SECONDS = 900.0
TELL_SECONDS, ASK_SECONDS = 1.0, 2.0
_TRANSIENT = frozenset({"bad_save", "busy", "image_changed", "spool_damaged"})


class Teller:
    """Carries the builder's progress to the operation, about once a second, and asks as often whether to stop.

    `share` is how many per cent of the operation the first part is; `next_part` begins the rest, of so many bytes, whose
    pieces are told one after another, each by its own words.
    """

    def __init__(self, context: RunContext, *, share: int = 100) -> None:
        self._context = context
        self._share, self._begun = share, 0
        self._all = self._before = self._latest = 0
        self._told = 0.0
        self._asked = 0.0
        self._words = ""

    def __call__(self, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        if now - self._asked >= ASK_SECONDS:
            self._asked = now
            self._context.check_cancel()
        if now - self._told < TELL_SECONDS and words == self._words:
            return
        if words != self._words:
            self._before += self._latest
        self._told, self._words, self._latest = now, words, total if self._all else 0
        if total:
            percent = self._begun + round(self._share * (self._before + done) / (self._all or total))
            self._context.progress(percent, f"{words} ({done / 1e6:.0f} of {total / 1e6:.0f} MB)")
        else:
            self._context.progress(step=words)

    def next_part(self, total: int) -> None:
        self._begun, self._share, self._all = self._share, 100 - self._share, total


class PackageBuild(BaseExecutor):
    """Builds a package; killed anywhere, the next run goes on with the layers that were saved."""

    kind = KIND
    label = "Build install package"
    queue = "cloud"
    permission = services.PERMISSION
    max_attempts = 5
    lease_seconds = 60

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        folder = selectors.folder_of(operation.organization_id, operation.resource_id)
        built: dict[str, Any] | None = context.state.get("built")
        if built is None or not (folder / built["file"]).is_file():
            built = self._build(context, folder)
            context.checkpoint(built=built)
        return built

    def finished(self, operation: Operation) -> None:
        if operation.status == Status.CANCELLED:
            services.discard_parts(selectors.folder_of(operation.organization_id, operation.resource_id))

    def subject(self, operation: Operation) -> str:
        return RESOURCE

    def _build(self, context: RunContext, folder: Path) -> dict[str, Any]:
        began = time.monotonic()

        def between() -> None:
            context.check_cancel()
            if time.monotonic() - began > TURN_SECONDS:
                raise RunAgain(0)

        context.progress(0, "Looking at the images")
        try:
            request = _request(context.operation, folder)
            builder = PackageBuilder(request, EngineImages(_client(context.operation)), Teller(context), between)
            built = builder.build()
            (folder / MANIFEST_COPY).write_bytes(read_small(open_source(str(built.path)), MANIFEST))
        except PackageProblem as problem:
            raise OperationFailed(
                problem.message, code=problem.code, next_step=problem.next_step, transient=problem.code in _TRANSIENT
            ) from None
        except OSError as failure:
            if failure.errno != errno.ENOSPC:
                raise
            raise OperationFailed(
                "The disk of the server is full.",
                code="no_room",
                next_step="Make room, then retry: nothing is saved twice.",
            ) from None
        return shape_of(built)


def _request(operation: Operation, folder: Path) -> Request:
    asked = operation.payload
    nodes = [catalog.node_from(n) for n in asked["nodes"]]
    base = None
    if asked.get("base"):
        earlier = selectors.folder_of(operation.organization_id, UUID(asked["base"]))
        base = base_from_manifest(earlier / MANIFEST_COPY)
    return Request(
        nodes=nodes,
        output=folder / str(asked["file_name"]),
        title=str(asked["title"]),
        base=base,
        key=load_or_create_key(selectors.key_path()) if asked.get("sign") else None,
        pull=bool(asked.get("pull")),
        endpoints=selectors.endpoints_of(organization_id=operation.organization_id, names=[n.name for n in nodes]),
        credentials_status=selectors.credentials_status(organization_id=operation.organization_id),
    )


def _client(operation: Operation) -> Any:
    account = CloudAccount.objects.for_org(operation.organization_id).filter(id=operation.payload["account"]).first()
    if account is None:
        raise OperationFailed(
            "The Docker engine was disconnected.", code="account_gone", next_step="Connect it again, then retry."
        )
    connection: Any = vault.connection_of(account)
    return connection.client(read_timeout=READ_SECONDS)


class PackageInstall(BaseExecutor):
    """Installs a package on the machine that Curfew runs on, with the very installer that travels in it."""

    kind = INSTALL_KIND
    label = "Install package on this machine"
    queue = "cloud"
    permission = services.PERMISSION
    max_attempts = 3
    lease_seconds = 60

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        actor = Actor.system("worker", operation.organization_id)
        package = selectors.get_package(actor=actor, package_id=UUID(operation.payload["package"]))
        account = (
            CloudAccount.objects.for_org(operation.organization_id)
            .filter(id=operation.resource_id, method="local")
            .first()
        )
        if package.path is None or account is None:
            raise OperationFailed("The package was deleted, or the engine was disconnected.", code="gone")
        docker = _docker(account)
        options = actions.Options(
            action="install",
            package=str(package.path),
            home=str(local_home(operation.organization_id)),
            start=bool(operation.payload.get("start")),
            public_key=package.public_key,
        )
        try:
            tell = Teller(context, share=50)
            run = actions.Installation(options, docker, tell, lambda line: context.progress(step=line))
            tell.next_part(sum(need.bytes for need in run.needs.values()))
            report = run.run()
        except InstallProblem as problem:
            step = STORED_WRONG if problem.exit_code == REFUSED else problem.next_step
            raise OperationFailed(
                problem.message, code=problem.code, next_step=step, transient=problem.code == "busy"
            ) from None
        told = {"nodes": report["nodes"], "images": report["images"], "warnings": report["warnings"]}
        context.checkpoint(report=told)
        failed = [f"{n['name']}: {n['message']}" for n in report["nodes"] if n["result"] == "failed"]
        if failed:
            raise OperationFailed(
                " ".join(failed), code="nodes_failed", next_step="Put right what Docker says, then retry."
            )
        return told

    def finished(self, operation: Operation) -> None:
        """What was installed is found at once, not at the next look at the whole engine."""
        account = CloudAccount.objects.for_org(operation.organization_id).filter(id=operation.resource_id).first()
        if account is not None and operation.status != Status.CANCELLED:
            hooks.cloud_account_resync.emit(actor=Actor.system("worker", operation.organization_id), account=account)

    def subject(self, operation: Operation) -> str:
        return INSTALL_KIND


def local_home(organization_id: UUID) -> Path:
    """Where the installer keeps its record of what an organization has on this machine."""
    return Path(settings.CURFEW_DATA) / "local-nodes" / str(organization_id)


def _docker(account: CloudAccount) -> Docker:
    if shutil.which("docker") is None:
        raise OperationFailed(
            "The docker command is not installed on this machine.",
            code="no_docker",
            next_step="Install it beside the engine.",
        )
    socket = vault.credentials_of(account).get("socket") or "/var/run/docker.sock"
    return Docker(settings={"DOCKER_HOST": f"unix://{socket.removeprefix('unix://')}"})
