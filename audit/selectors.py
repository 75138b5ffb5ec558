"""Reads of the audit log: scoped, filtered, paged by key so that the millionth page is as quick as the first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.db.models import Count, Q
from django.db.models.functions import Length
from django.urls import reverse

from audit import chain, search, targets, verbs
from audit.enums import Outcome
from audit.models import AuditEntry, AuditExport, AuditHead, AuditPending, AuditSeal, SavedView, Sink
from core import clock
from core.actor import Actor, ActorKind
from core.errors import NotFound

PERMISSION = "audit.view"
COUNTED = 10_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
WHO: dict[str, tuple[str, ...]] = {
    "people": (ActorKind.USER,),
    "system": (ActorKind.SYSTEM,),
    "programs": (ActorKind.API_KEY, ActorKind.AGENT),
}
SINCE: dict[str, timedelta] = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30)}
ICONS: dict[str, str] = {
    ActorKind.USER: "user",
    ActorKind.SYSTEM: "robot",
    ActorKind.API_KEY: "key",
    ActorKind.AGENT: "plug",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is asked for; empty fields ask for nothing."""

    search: str = ""
    who: str = ""
    actor_id: str = ""
    verb: str = ""
    target_kind: str = ""
    target_id: str = ""
    outcome: str = ""
    operation_id: UUID | None = None
    request_id: str = ""
    since: str = ""
    start: datetime | None = None
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """One field, before and after, as text; None: it was not there."""

    field: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class EntryView:
    """One line as a page shows it; `seal` is None for the seconds until the sealer came by."""

    entry: AuditEntry
    seal: AuditSeal | None
    sentence: str
    what: str
    icon: str
    url: str
    target_url: str = ""

    @property
    def initials(self) -> str:
        """Of a person, for the round picture beside the name; "" for everybody else."""
        if self.entry.actor_kind != ActorKind.USER:
            return ""
        words = self.entry.actor_label.replace(".", " ").split("@")[0].split()
        return "".join(word[0] for word in (words[:1] + words[1:][-1:])).upper() or "?"

    @property
    def clock(self) -> str:
        """When, in UTC, to the millisecond that the chain keeps: "21 Nov 14:02:11.418"."""
        at = self.entry.at.astimezone(UTC)
        return f"{at.day} {at:%b %H:%M:%S}.{at.microsecond // 1000:03d}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.entry, name)


@dataclass(frozen=True, slots=True)
class Window:
    """Lines newest first, with the cursors of the neighbouring windows ("" at the end) and the length of the chain."""

    entries: list[EntryView]
    older: str
    newer: str
    total: int
    is_newest: bool


def cursor_of(entry: AuditEntry) -> str:
    """Where a window may start: the moment in microseconds and the number in the chain."""
    return f"{(entry.at - EPOCH) // timedelta(microseconds=1)}.{entry.seq}"


def _parsed(cursor: str) -> tuple[datetime, int] | None:
    try:
        micros, seq = (int(part) for part in cursor.split("."))
        return EPOCH + timedelta(microseconds=micros), seq
    except (ValueError, OverflowError):
        return None


def seal_of(entry: AuditEntry) -> AuditSeal | None:
    """The place of the entry in the chain, if it has one yet; no read when the entry came with `select_related`."""
    try:
        return entry.seal
    except AuditSeal.DoesNotExist:
        return None


def view(entry: AuditEntry) -> EntryView:
    """The line with its sentence, without further reads; `what` leaves the target to its own column."""
    return EntryView(
        entry=entry,
        seal=seal_of(entry),
        sentence=verbs.sentence(entry.verb, entry.target_label or "it"),
        what=verbs.deed(entry.verb),
        icon=ICONS.get(entry.actor_kind, "user-question"),
        url=reverse("audit:detail", args=[entry.id]),
        target_url=targets.url_of(entry.target_kind, entry.target_id),
    )


def query(*, actor: Actor, filters: Filters) -> Any:
    """Matching lines, newest first. Raises Forbidden without audit.view."""
    actor.require(PERMISSION, "see the audit log")
    rows = AuditEntry.objects.visible_to(actor)
    exact = {
        "actor_id": filters.actor_id,
        "verb": filters.verb,
        "target_kind": filters.target_kind,
        "target_id": filters.target_id,
        "outcome": filters.outcome,
        "operation_id": filters.operation_id,
        "request_id": filters.request_id,
    }
    rows = rows.filter(**{name: value for name, value in exact.items() if value})
    if filters.who in WHO:
        rows = rows.filter(actor_kind__in=WHO[filters.who])
    start = clock.now() - SINCE[filters.since] if filters.since in SINCE else filters.start
    if start:
        rows = rows.filter(at__gte=start)
    if filters.end:
        rows = rows.filter(at__lt=filters.end)
    return (
        search.narrow(rows, filters.search).defer("canonical", "words").select_related("seal").order_by("-at", "-seq")
    )


def window(
    *, actor: Actor, filters: Filters, before: str = "", after: str = "", size: int = 50, about: Q | None = None
) -> Window:
    """One window of the log: the newest, or those just older than `before`, or just newer than `after`; of the lines
    `about` something, where that is given."""
    rows = query(actor=actor, filters=filters)
    rows = rows if about is None else rows.filter(about)
    older_than, newer_than = _parsed(before), _parsed(after)
    if newer_than:
        at, seq = newer_than
        found = list(rows.filter(Q(at__gt=at) | Q(seq__gt=seq), at__gte=at).order_by("at", "seq")[: size + 1])
        more_newer, entries = len(found) > size, found[:size][::-1]
        more_older = True
    else:
        if older_than:
            at, seq = older_than
            rows = rows.filter(Q(at__lt=at) | Q(seq__lt=seq), at__lte=at)  # the last condition is what the index serves
        found = list(rows[: size + 1])
        more_older, entries = len(found) > size, found[:size]
        more_newer = older_than is not None
    return Window(
        entries=[view(e) for e in entries],
        older=cursor_of(entries[-1]) if entries and more_older else "",
        newer=cursor_of(entries[0]) if entries and more_newer else "",
        total=_length(actor),
        is_newest=not more_newer,
    )


def _length(actor: Actor) -> int:
    if actor.org_id is None:
        return 0
    head = AuditHead.objects.filter(organization_id=actor.org_id).first()
    return (head.seq if head else 0) + AuditPending.objects.for_org(actor.org_id).count()


def counts(*, actor: Actor, filters: Filters) -> tuple[dict[str, int], bool]:
    """Lines by group of actors and by outcome among the newest 10,000 that match, and whether there are more."""
    newest = query(actor=actor, filters=filters).values("actor_kind", "outcome")[:COUNTED]
    groups = {group: Count("pk", filter=Q(actor_kind__in=kinds)) for group, kinds in WHO.items()}
    outcomes = {one: Count("pk", filter=Q(outcome=one)) for one in Outcome.values}
    found = newest.aggregate(all=Count("pk"), **groups, **outcomes)  # over those rows alone, without reading more
    total = found.pop("all")
    return {"": total, **found}, total >= COUNTED


def get_entry(*, actor: Actor, entry_id: UUID | str) -> EntryView:
    """One line; NotFound also when it is another organization's."""
    actor.require(PERMISSION, "see the audit log")
    found = AuditEntry.objects.visible_to(actor).select_related("seal").filter(id=entry_id).first()
    if found is None:
        raise NotFound("There is no such line in the audit log.")
    return view(found)


def entries_of_operation(*, actor: Actor, operation_id: UUID, limit: int = 50) -> list[EntryView]:
    """The lines that belong to an operation, oldest first."""
    return [view(e) for e in query(actor=actor, filters=Filters(operation_id=operation_id)).order_by("seq")[:limit]]


def changes_of(entry: AuditEntry) -> list[Change]:
    """`{field: [before, after]}` as lines to show; a value that is not such a pair counts as after."""
    lines = []
    for name, pair in sorted(entry.changes.items()):
        before, after = pair if isinstance(pair, list) and len(pair) == 2 else (None, pair)
        lines.append(Change(name, _text(before), _text(after)))
    return lines


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def iso(moment: datetime) -> str:
    """ISO 8601 UTC with milliseconds, as it is hashed and signed."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def canonical_form(values: dict[str, Any]) -> dict[str, Any]:
    """Database values of one entry as plain JSON values: ids and times as text."""
    operation = values["operation_id"]
    return {
        **values,
        "id": str(values["id"]),
        "organization": str(values["organization"]),
        "at": iso(values["at"]),
        "operation_id": str(operation) if operation else None,
    }


def as_mapping(entry: AuditEntry) -> dict[str, Any]:
    """The content of the entry in the form that is hashed, exported and verified."""
    values = {name: getattr(entry, name) for name in chain.FIELDS if name != "organization"}
    return canonical_form({**values, "organization": entry.organization_id})


def exports(*, actor: Actor, limit: int = 20) -> list[AuditExport]:
    """The newest exports of the organization."""
    actor.require("audit.export", "export the audit log")
    return list(AuditExport.objects.visible_to(actor).order_by("-created_at")[:limit])


def saved_views(*, actor: Actor) -> list[SavedView]:
    """The actor's own views by name."""
    return (
        list(SavedView.objects.visible_to(actor).filter(user_id=actor.id).order_by("name"))
        if actor.kind == ActorKind.USER
        else []
    )


@dataclass(frozen=True, slots=True)
class Volume:
    """How fast the log grows: lines of the last thirty days, and bytes of text a line has on average (None: no lines)."""

    lines: int
    bytes_each: int | None

    @property
    def a_year(self) -> int | None:
        """Bytes of text that a year takes at this pace, indexes not counted."""
        return round(self.lines / 30 * 365 * self.bytes_each) if self.bytes_each else None


def volume(*, actor: Actor) -> Volume:
    """From the line numbers of today and thirty days ago, and the newest five hundred lines."""
    if actor.org_id is None:
        return Volume(0, None)
    rows = query(actor=actor, filters=Filters())
    sizes = list(rows.annotate(size=Length("canonical")).values_list("size", flat=True)[:500])
    oldest = rows.filter(at__gte=clock.now() - SINCE["30d"], seal__isnull=False).order_by("at", "seq").first()
    head = AuditHead.objects.filter(organization_id=actor.org_id).first()
    lines = head.seq - oldest.seal.line + 1 if head and oldest else 0
    return Volume(lines, sum(sizes) // len(sizes) if sizes else None)


@dataclass(frozen=True, slots=True)
class SinkView:
    """A destination with what it lacks: lines, and the age of the oldest of them."""

    sink: Sink
    host: str
    behind: int
    since: datetime | None


def sinks(*, actor: Actor) -> list[SinkView]:
    """The organization's destinations by name, with their lag."""
    actor.require("audit.manage", "see where the audit log is sent")
    found = []
    for sink in Sink.objects.visible_to(actor).order_by("name"):
        head = AuditHead.objects.filter(organization_id=sink.organization_id).first()
        behind = max(0, head.seq - sink.line) if head else 0
        oldest = (
            AuditSeal.objects.visible_to(actor)
            .filter(line__gt=sink.line)
            .order_by("line")
            .select_related("entry")
            .first()
            if behind
            else None
        )
        options = sink.options
        host = (
            options.get("bucket")
            or options.get("host")
            or options.get("site")
            or urlsplit(str(options.get("url", ""))).hostname
            or ""
        )
        found.append(SinkView(sink, str(host), behind, oldest.entry.at if oldest else None))
    return found
