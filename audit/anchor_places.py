"""Anchors beyond this machine: a webhook and an S3 bucket under object lock, both named by the operator's settings.

They are settings and not rows, because whoever holds the database must not be able to remove them. Each checkpoint is
sent after it was written to the anchor file, in order of lines, and again until it is confirmed: a small file beside
the anchors remembers how far each place came, and what went wrong last.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from audit import anchors, s3
from audit.sending import NotShipped, check, signature
from core import clock, ssrf

log = logging.getLogger(__name__)
READ_BACK = 20
_LARGEST = 10**19
FILE, WEBHOOK, BUCKET = "file", "webhook", "s3"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a place came with one organization's checkpoints: the last confirmed line, when, and what failed since."""

    place: str
    host: str
    line: int = 0
    at: str = ""
    error: str = ""

    @property
    def moment(self) -> datetime | None:
        return datetime.fromisoformat(self.at) if self.at else None


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where the anchors lie in S3; objects cannot be removed for `lock_days` days (0: no lock is asked for)."""

    endpoint: str
    name: str
    prefix: str
    region: str
    lock_days: int
    secrets: dict[str, str]

    def url(self, key: str = "", query: str = "") -> str:
        path = f"/{quote(key)}" if key else ""
        return f"{self.endpoint}/{self.name}{path}{'?' if query else ''}{query}"

    def folder(self, organization: UUID | str) -> str:
        return f"{self.prefix}/{organization}/".lstrip("/")


def bucket() -> Bucket | None:
    """From `s3://bucket/prefix?region=eu-west-1&lock_days=365&endpoint=https://…`; None when none is set."""
    if not settings.CURFEW_AUDIT_ANCHOR_BUCKET:
        return None
    parts = urlsplit(settings.CURFEW_AUDIT_ANCHOR_BUCKET)
    asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
    key_id, _, key = settings.CURFEW_AUDIT_ANCHOR_BUCKET_KEY.partition(":")
    days = asked.get("lock_days", "0")
    if parts.scheme != "s3" or not parts.hostname or not asked.get("region") or not key or not days.isdecimal():
        raise ImproperlyConfigured(
            "CURFEW_AUDIT_ANCHOR_BUCKET needs s3://bucket?region=… and CURFEW_AUDIT_ANCHOR_BUCKET_KEY id:secret."
        )
    endpoint = (asked.get("endpoint") or f"https://s3.{asked['region']}.amazonaws.com").rstrip("/")
    secrets = {"access_key_id": key_id, "secret_access_key": key}
    return Bucket(endpoint, parts.hostname, parts.path.strip("/"), asked["region"], int(days), secrets)


def progress(organization_id: UUID) -> list[Progress]:
    """Each place that is set, with how far it came."""
    found = []
    if settings.CURFEW_AUDIT_ANCHOR_WEBHOOK:
        host = urlsplit(settings.CURFEW_AUDIT_ANCHOR_WEBHOOK).hostname or ""
        found.append(_known(organization_id, Progress(WEBHOOK, host)))
    if (place := bucket()) is not None:
        found.append(_known(organization_id, Progress(BUCKET, place.name)))
    return found


def standing(organization_id: UUID) -> list[Progress]:
    """The same with the anchor file in front: what the page shows."""
    kept, bad = anchors.read(organization_id)
    here = (
        Progress(FILE, str(anchors.folder()), kept[-1].line, kept[-1].at)
        if kept
        else Progress(FILE, str(anchors.folder()))
    )
    return [replace(here, error=f"{bad} lines are damaged" if bad else ""), *progress(organization_id)]


def send(organization_id: UUID) -> None:
    """Send every place what it lacks. A place that refuses is noted, logged, and tried again with the next checkpoint."""
    for place in progress(organization_id):
        _send_to(place, organization_id)


def _send_to(place: Progress, organization_id: UUID) -> None:
    for anchor in [a for a in anchors.read(organization_id)[0] if a.line > place.line]:
        try:
            _SENDERS[place.place](anchor)
        except (ssrf.Refused, ssrf.Unreachable, NotShipped) as failed:
            log.warning("audit_anchor_not_sent", extra={"place": place.place, "reason": failed.message})
            _remember(organization_id, replace(place, error=failed.message))
            return
        place = replace(place, line=anchor.line, at=clock.now().isoformat(timespec="seconds"), error="")
        _remember(organization_id, place)


def read_back(organization_id: UUID) -> tuple[list[anchors.Anchor], str]:
    """The newest anchors in the bucket, and why they could not be read ("" when they could, or no bucket is set)."""
    place = bucket()
    if place is None:
        return [], ""
    try:
        return list(_newest(place, organization_id)), ""
    except (ssrf.Refused, ssrf.Unreachable, NotShipped) as failed:
        return [], f"the anchors in the bucket {place.name} could not be read: {failed.message}"


def organizations() -> set[UUID]:
    """Ids of the organizations that have anchors in the bucket; empty when it cannot be read."""
    place = bucket()
    if place is None:
        return set()
    prefix = f"{place.prefix}/".lstrip("/")
    try:
        listing = _get(place.url(query=f"delimiter=%2F&list-type=2&prefix={quote(prefix, safe='')}"), place)
    except (ssrf.Refused, ssrf.Unreachable, NotShipped) as failed:
        log.warning("audit_anchors_not_listed", extra={"reason": failed.message})
        return set()
    return {UUID(found) for found in re.findall(r"([0-9a-f-]{36})/</Prefix>", listing.decode("utf-8", "replace"))}


def _newest(place: Bucket, organization_id: UUID) -> Iterator[anchors.Anchor]:
    query = f"list-type=2&max-keys={READ_BACK}&prefix={quote(place.folder(organization_id), safe='')}"
    listing = _get(place.url(query=query), place).decode("utf-8", "replace")
    for key in re.findall(r"<Key>([^<]+)</Key>", listing)[:READ_BACK]:
        try:
            anchor = anchors.Anchor(**json.loads(_get(place.url(key), place)))
        except (ValueError, TypeError):
            continue
        if anchor.organization == str(organization_id) and anchor.is_signed():
            yield anchor


def _get(url: str, place: Bucket) -> bytes:
    headers = s3.signed_headers(url, b"", place.region, place.secrets, method="GET")
    answer = ssrf.post(url, b"", headers, method="GET")
    if answer.status != 200:
        raise NotShipped(f"It answered {answer.status}.")
    return answer.body


def _to_webhook(anchor: anchors.Anchor) -> None:
    data = json.dumps({"kind": "checkpoint", **asdict(anchor)}, sort_keys=True).encode()
    headers = {"Content-Type": "application/json"}
    if settings.CURFEW_AUDIT_ANCHOR_WEBHOOK_SECRET:
        headers["Curfew-Signature"] = signature(settings.CURFEW_AUDIT_ANCHOR_WEBHOOK_SECRET, data)
    check(ssrf.post(settings.CURFEW_AUDIT_ANCHOR_WEBHOOK, data, headers))


def _to_bucket(anchor: anchors.Anchor) -> None:
    """One object a checkpoint; names sort the newest first, because S3 lists in ascending order only."""
    place = bucket()
    if place is None:
        return
    data = json.dumps(asdict(anchor), sort_keys=True).encode()
    url = place.url(f"{place.folder(anchor.organization)}{_LARGEST - anchor.line:020d}-line-{anchor.line}.json")
    more = {"content-md5": base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()}
    if place.lock_days:
        until = clock.now() + timedelta(days=place.lock_days)
        more["x-amz-object-lock-mode"] = "COMPLIANCE"
        more["x-amz-object-lock-retain-until-date"] = until.strftime("%Y-%m-%dT%H:%M:%SZ")
    check(ssrf.post(url, data, s3.signed_headers(url, data, place.region, place.secrets, more=more), method="PUT"))


_SENDERS = {WEBHOOK: _to_webhook, BUCKET: _to_bucket}


def _file(organization_id: UUID, place: str) -> Any:
    return anchors.folder() / f"{organization_id}.{place}.json"


def _known(organization_id: UUID, place: Progress) -> Progress:
    try:
        kept = json.loads(_file(organization_id, place.place).read_text(encoding="utf-8"))
        return Progress(place.place, place.host, int(kept["line"]), str(kept["at"]), str(kept["error"]))
    except (OSError, ValueError, KeyError, TypeError):
        return place  # nothing known: everything is sent again, which harms nobody


def _remember(organization_id: UUID, place: Progress) -> None:
    try:
        _file(organization_id, place.place).write_text(json.dumps(asdict(place)), encoding="utf-8")
    except OSError:
        log.exception("audit_anchor_progress_not_written", extra={"place": place.place})
