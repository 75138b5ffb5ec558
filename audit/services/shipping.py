"""Destinations of the log (SIEM): every sealed line, in order, at least once.

The log itself is the buffer: a destination has a cursor, the last line that it confirmed. Whoever ships holds a lease
with a number; the cursor moves only for the holder, from the line where it stood. A destination that was away for a
day gets everything in order when it is back; a shipper that was killed leaves a lease that ends by itself.
"""

from __future__ import annotations

import logging
import secrets as random_text
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction
from django.db.models import F, Q

from audit import shippers
from audit.enums import DATADOG_SITES, Shipping, SinkKind
from audit.models import AuditHead, AuditPurge, AuditSeal, Sink
from audit.sending import NotShipped
from audit.services.recording import record
from audit.verification import Line, lines_between
from core import clock, hooks, ssrf
from core.actor import Actor
from core.encryption import CannotDecrypt, seal, unseal
from core.errors import Forbidden, InvalidInput, NotFound

log = logging.getLogger(__name__)
MANAGE = "audit.manage"
BATCH = 200
MOST_BYTES = 1_000_000
LEASE = timedelta(minutes=2)
LONGEST_WAIT = 900.0
TELL_AFTER = 5  # attempts in a row, about two and a half minutes
FIELDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    SinkKind.DATADOG: (("site",), ("api_key",)),
    SinkKind.SPLUNK: (("url",), ("token",)),
    SinkKind.S3: (("bucket", "region"), ("access_key_id", "secret_access_key")),
    SinkKind.SYSLOG: (("host", "port"), ()),
    SinkKind.WEBHOOK: (("url",), ()),
}
OPTIONAL = {SinkKind.S3: ("prefix", "endpoint"), SinkKind.SYSLOG: ("tls",)}


def add_sink(
    *,
    actor: Actor,
    name: str,
    kind: str,
    options: Mapping[str, Any],
    secrets: Mapping[str, Any],
    shape: str = Shipping.OCSF,
) -> tuple[Sink, str]:
    """A new destination, which begins with the lines from now on, and a webhook's signing secret, shown this once.

    `options` and `secrets` hold the fields of FIELDS. Raises InvalidInput per field.
    """
    actor.require(MANAGE, "send the audit log elsewhere")
    if actor.org_id is None:
        raise Forbidden("Act in one organization to add a destination.")
    errors = _problems(name, kind, shape, options, secrets)
    if Sink.objects.for_org(actor.org_id).filter(name=name.strip()).exists():
        errors["name"] = ["There is a destination of that name."]
    if errors:
        raise InvalidInput(errors=errors)
    wanted, hidden = FIELDS[kind]
    made = f"whsec_{random_text.token_urlsafe(32)}" if kind == SinkKind.WEBHOOK else ""
    kept = {name: secrets[name] for name in hidden} | ({"secret": made} if made else {})
    sink_id, head = uuid4(), AuditHead.objects.filter(organization_id=actor.org_id).first()
    with transaction.atomic():
        sink = Sink.objects.for_org(actor.org_id).create(
            id=sink_id,
            organization_id=actor.org_id,
            name=name.strip(),
            kind=kind,
            shape=shape,
            options={
                name: options[name]
                for name in (*wanted, *OPTIONAL.get(SinkKind(kind), ()))
                if options.get(name) not in (None, "")
            },
            secrets=seal(kept, bound_to=f"sink:{sink_id}") if kept else "",
            line=head.seq if head else 0,
            not_before=clock.now(),
            created_at=clock.now(),
        )
        record(
            actor=actor,
            verb="sink.added",
            target_kind="sink",
            target_id=str(sink.id),
            target_label=sink.name,
            changes={"kind": [None, kind]},
        )
    return sink, made


def _problems(
    name: str, kind: str, shape: str, options: Mapping[str, Any], secrets: Mapping[str, Any]
) -> dict[str, list[str]]:
    errors: dict[str, list[str]] = {}
    if not 0 < len(name.strip()) <= 80:
        errors["name"] = ["Give the destination a name of 1 to 80 characters."]
    if shape not in Shipping.values:
        errors["shape"] = ["Choose OCSF or Curfew's own form."]
    if kind not in FIELDS:
        return errors | {"kind": ["Choose a kind of destination."]}
    wanted, hidden = FIELDS[kind]
    errors |= {field: ["This is needed."] for field in wanted if not options.get(field)}
    errors |= {field: ["This is needed."] for field in hidden if not secrets.get(field)}
    if not errors:
        errors |= _address_problem(kind, options)
    return errors


def _address_problem(kind: str, options: Mapping[str, Any]) -> dict[str, list[str]]:
    field = {SinkKind.SYSLOG: "host", SinkKind.DATADOG: "site", SinkKind.S3: "endpoint"}.get(SinkKind(kind), "url")
    try:
        if kind == SinkKind.DATADOG:
            return {} if options["site"] in DATADOG_SITES else {"site": ["This is no site of Datadog."]}
        if kind == SinkKind.SYSLOG:
            ssrf.resolve(str(options["host"]), int(options["port"]))
        elif options.get(field):
            ssrf.check_url(str(options[field]))
    except (ssrf.Refused, ssrf.Unreachable) as refused:
        return {field: [refused.message]}
    except ValueError:
        return {"port": ["Give a number."]}
    return {}


def get_sink(*, actor: Actor, sink_id: UUID) -> Sink:
    """A destination of the actor's organization; NotFound otherwise."""
    found = Sink.objects.visible_to(actor).filter(id=sink_id).first()
    if found is None:
        raise NotFound("There is no such destination.")
    actor.require(MANAGE, "change where the audit log is sent")
    return found


def set_sink_enabled(*, actor: Actor, sink_id: UUID, enabled: bool) -> Sink:
    """Turn a destination on or off; when it is on again it gets what it missed, as far as the log still has it."""
    sink = get_sink(actor=actor, sink_id=sink_id)
    with transaction.atomic():
        if sink.enabled != enabled:
            record(
                actor=actor,
                verb="sink.changed",
                target_kind="sink",
                target_id=str(sink.id),
                target_label=sink.name,
                changes={"enabled": [sink.enabled, enabled]},
            )
        sink.enabled, sink.not_before, sink.failures = enabled, clock.now(), 0
        sink.save(update_fields=["enabled", "not_before", "failures"])
    return sink


def remove_sink(*, actor: Actor, sink_id: UUID) -> None:
    """Forget a destination with its secrets."""
    sink = get_sink(actor=actor, sink_id=sink_id)
    with transaction.atomic():
        record(actor=actor, verb="sink.removed", target_kind="sink", target_id=str(sink.id), target_label=sink.name)
        sink.delete()


def replay_sink(*, actor: Actor, sink_id: UUID, days: int) -> Sink:
    """Send the lines of the last `days` days again, with the same ids. Raises InvalidInput outside 1 to 365."""
    sink = get_sink(actor=actor, sink_id=sink_id)
    if not 1 <= days <= 365:
        raise InvalidInput(errors={"days": ["1 to 365 days."]})
    since = clock.now() - timedelta(days=days)
    first = (
        AuditSeal.objects.for_org(sink.organization_id)
        .filter(entry__at__gte=since)
        .order_by("line")
        .values_list("line", flat=True)
        .first()
    )
    with transaction.atomic():
        Sink.objects.for_org(sink.organization_id).filter(id=sink.id).update(
            line=min(sink.line, first - 1) if first else sink.line,
            lease=F("lease") + 1,
            lease_until=None,
            not_before=clock.now(),
        )
        record(
            actor=actor,
            verb="sink.replayed",
            target_kind="sink",
            target_id=str(sink.id),
            target_label=sink.name,
            detail=f"last {days} days",
        )
    sink.refresh_from_db()
    return sink


def test_sink(*, actor: Actor, sink_id: UUID) -> str:
    """Send one test event now; "" when it was confirmed, else why not. The cursor stays."""
    sink = get_sink(actor=actor, sink_id=sink_id)
    try:
        shippers.ship(sink.kind, sink.shape, sink.options, _secrets(sink), [shippers.probe(str(sink.organization_id))])
    except NotShipped as failed:
        return failed.message
    return ""


def ship_all() -> int:
    """Ship to every destination that is due; the number of confirmed lines."""
    now = clock.now()
    due = (
        Sink.objects.all_orgs()
        .filter(enabled=True, not_before__lte=now)
        .filter(Q(lease_until=None) | Q(lease_until__lt=now))
    )
    return sum(ship_to(sink_id=one) for one in list(due.values_list("id", flat=True)))


def ship_to(*, sink_id: UUID, batches: int = 100) -> int:
    """Ship what one destination lacks, up to `batches` times 200 lines; 0 when another holds the lease."""
    now = clock.now()
    rows = Sink.objects.all_orgs().filter(id=sink_id)
    free = rows.filter(enabled=True).filter(Q(lease_until=None) | Q(lease_until__lt=now))
    if not free.update(lease_until=now + LEASE, lease=F("lease") + 1):
        return 0
    sink = rows.get()
    mine = rows.filter(lease=sink.lease)
    total = 0
    try:
        for _ in range(batches):
            done = _ship_batch(sink, mine)
            total += done
            if done == 0:
                break
    finally:
        mine.update(lease_until=None)
    return total


def _ship_batch(sink: Sink, mine: Any) -> int:
    purge = AuditPurge.objects.for_org(sink.organization_id).order_by("-line").first()
    after = max(sink.line, purge.line if purge else 0)
    lines = _within_bytes(lines_between(sink.organization_id, after, after + BATCH))
    if not lines:
        return 0
    try:
        shippers.ship(sink.kind, sink.shape, sink.options, _secrets(sink), lines)
    except NotShipped as failed:
        wait = min(LONGEST_WAIT, 5.0 * 2 ** min(sink.failures, 10))
        mine.update(
            failures=F("failures") + 1, error=failed.message[:500], not_before=clock.now() + timedelta(seconds=wait)
        )
        if sink.failures + 1 == TELL_AFTER:
            hooks.notice.emit(
                event="audit.destination",
                subject=f"The audit log does not reach {sink.name}",
                body=f"{failed.message} What waits is kept and sent once it answers.",
                dedupe_key=f"audit-sink:{sink.id}:{lines[0].line}",
                organization_id=sink.organization_id,
            )
        log.warning("audit_not_shipped", extra={"sink": str(sink.id), "line": lines[0].line, "reason": failed.message})
        return 0
    now = clock.now()
    moved = mine.filter(line=sink.line).update(
        line=lines[-1].line, failures=0, error="", delivered_at=now, lease_until=now + LEASE
    )
    sink.line = lines[-1].line
    return len(lines) if moved else 0


def _within_bytes(lines: Iterable[Line]) -> list[Line]:
    """The lines that have their entry, as many as fit into one delivery; one at least."""
    kept: list[Line] = []
    size = 0
    for line in lines:
        if line.content is None:
            continue
        size += len(line.canonical)
        if kept and size > MOST_BYTES:
            break
        kept.append(line)
    return kept


def _secrets(sink: Sink) -> dict[str, Any]:
    try:
        return unseal(sink.secrets, bound_to=f"sink:{sink.id}")
    except CannotDecrypt as closed:
        raise NotShipped("Its stored secret cannot be opened. Remove the destination and add it again.") from closed
