"""Everything that is kept about one person, as a zip of JSON that only this person can fetch."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts import selectors as accounts
from audit import services as audit
from core import clock, hooks
from core.actor import Actor, ActorKind
from core.errors import Forbidden, NotFound
from operations import services
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunContext

KIND = "person.export"
RESOURCE = "person"
KEPT = timedelta(days=7)
README = """This is everything that Curfew keeps about you, as of {at}.

Each file holds one kind of thing, one JSON object a line. Secrets are not among them: passwords are kept as hashes,
keys and second factors encrypted. What you did stands in the audit logs of your organizations, in audit.jsonl as far as
you are still a member.
"""


def request_export(*, actor: Actor) -> Operation:
    """Order the actor's own export. Raises Conflict while one is under way."""
    user_id = _own(actor)
    return services.request_operation(
        actor=actor,
        kind=KIND,
        resource_kind=RESOURCE,
        resource_id=user_id,
        resource_label=f"Personal data of {actor.label}",
    )


def exports_of(*, actor: Actor) -> list[Operation]:
    """The actor's own exports of the last seven days, from whichever organization they were ordered, the newest first."""
    since = clock.now() - KEPT
    rows = Operation.objects.all_orgs().filter(kind=KIND, resource_id=_own(actor), created_at__gt=since)
    return list(rows.order_by("-created_at")[:10])


def fetch(*, actor: Actor, operation_id: UUID) -> Path:
    """The file of one's own finished export; recorded. NotFound for anybody else's, and after seven days."""
    for operation in exports_of(actor=actor):
        path = path_of(operation)
        if operation.id == operation_id and operation.status == Status.SUCCEEDED and path.is_file():
            audit.record_alone(
                actor=actor,
                verb="user.data_fetched",
                target_kind=RESOURCE,
                target_id=actor.id,
                target_label=actor.label,
            )
            return path
    raise NotFound("There is no such file. Exports are kept for seven days.")


def path_of(operation: Operation) -> Path:
    return Path(settings.MEDIA_ROOT) / "personal" / str(operation.resource_id) / f"{operation.id}.zip"


def clear_old() -> int:
    """Remove files that are older than seven days, and parts that were never finished; how many."""
    before = (clock.now() - KEPT).timestamp()
    gone = 0
    for path in (Path(settings.MEDIA_ROOT) / "personal").glob("*/*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()
                gone += 1
    return gone


def forget(*, user_id: Any) -> None:
    """A person was deleted: their files go too."""
    shutil.rmtree(Path(settings.MEDIA_ROOT) / "personal" / str(user_id), ignore_errors=True)


class PersonExport(BaseExecutor):
    """Written beside and renamed at the end: killed anywhere, the next run writes it anew."""

    kind = KIND
    label = "Export personal data"
    queue = "fast"
    permission = "operations.view"
    max_attempts = 3
    announces_failure = False  # the person's own business

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        user = accounts.get_user(operation.resource_id)
        if user is None:
            raise OperationFailed("The person is not here any more.", code="person_gone")
        sections = [s for found in hooks.personal_data.emit(user=user) for s in found]
        path = path_of(operation)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = path.with_suffix(f".{operation.fence}.part")
        counts: dict[str, int] = {}
        with part.open("wb") as raw, zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", README.format(at=clock.now().isoformat(timespec="seconds")))
            for number, (name, rows) in enumerate(sections, start=1):
                context.check_cancel()
                context.progress(90 * number // (len(sections) + 1), f"Writing {name}")
                counts[name] = _write(archive, name, rows)
        part.chmod(0o600)
        with part.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        os.replace(part, path)  # noqa: PTH105  atomic, also over an earlier run's file
        return {"size": path.stat().st_size, "sha256": digest, "rows": counts}


def _write(archive: zipfile.ZipFile, name: str, rows: Iterator[Mapping[str, Any]]) -> int:
    count = 0
    with archive.open(f"{name}.jsonl", "w") as file:
        for row in rows:
            file.write(json.dumps(row, default=str, ensure_ascii=False, sort_keys=True).encode() + b"\n")
            count += 1
    return count


def _own(actor: Actor) -> UUID:
    if actor.kind != ActorKind.USER:
        raise Forbidden("Only a person has personal data.")
    return UUID(actor.id)
