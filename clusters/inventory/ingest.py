"""Messages of cluster agents judged and applied: pure, so that every order of arrival can be tested.

The caller keeps `Held` per cluster (three numbers, two texts and the records), calls `read` and `receive` under its
row lock, stores what comes back and answers with `Verdict.status` and `Verdict.body`. A message is applied whole or
not at all; one that was applied before is answered as if it were new.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from agent.wire.codec import WireError, from_wire, iso, moment
from agent.wire.delta import Changes, State, diff
from agent.wire.message import DELTA, FULL, BadMessage, Message, Sample, Usage, decode
from agent.wire.model import FORMAT, Cluster, Source
from agent.wire.snapshot import Snapshot

LIVE_FOR = timedelta(seconds=39)
MOST_FORMER_SESSIONS = 8
LARGEST_HEARTBEAT = 256 * 1024


@dataclass(frozen=True, slots=True)
class Held:
    """Where one cluster's report stands. `sample` is the last usage sample's number within the session."""

    session: str = ""
    sequence: int = 0
    digest: str = ""
    sample: int = 0
    former: tuple[str, ...] = ()
    heard_at: datetime | None = None


@dataclass(slots=True)
class Verdict:
    """What to answer and what to keep. `changes` is what the message altered, `samples` what it brought anew."""

    status: int
    body: dict[str, Any]
    held: Held
    applied: bool = False
    changes: Changes = field(default_factory=Changes)
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat, read. `raw` holds agent, api_server, delivery and whatever a newer agent adds."""

    session: str
    sequence: int
    digest: str
    at: datetime
    cluster_uid: str
    sources: dict[str, Source]
    counts: dict[str, int]
    order_results: tuple[dict[str, str], ...]
    raw: dict[str, Any]


def read(body: bytes, *, gzip: bool = True) -> Message:
    """Return the message of a request's body. Raises BadMessage; see `refusal` for the answer."""
    return decode(body, gzip=gzip)


def refusal(bad: BadMessage) -> tuple[int, dict[str, Any]]:
    """Return status and body of the answer to a message that could not be read."""
    status = {"too_large": 413, "unsupported_format": 415}.get(bad.code, 400)
    body: dict[str, Any] = {"code": bad.code, "detail": bad.detail}
    if bad.code == "unsupported_format":
        body["formats"] = [FORMAT]
    return status, body


def _conflict(held: Held, code: str, detail: str) -> Verdict:
    have = {"session": held.session, "sequence": held.sequence, "digest": held.digest}
    return Verdict(409, {"code": code, "detail": detail, "have": have}, held)


def is_standby(held: Held, session: str, now: datetime, live_for: timedelta = LIVE_FOR) -> bool:
    """Return whether another agent, heard not long ago, reports this cluster and `session` is one it has replaced."""
    if session == held.session or session not in held.former or held.heard_at is None:
        return False
    return now - held.heard_at <= live_for


def receive(held: Held, state: State, message: Message, now: datetime, live_for: timedelta = LIVE_FOR) -> Verdict:
    """Apply a message to `state` in place and return the verdict.

    200: applied, or applied before. 409 `superseded`: another agent has taken over. 409 `resync_required`: a message
    is missing, or the digests differ; the agent answers with a full snapshot. On a 409 the state is unchanged, except
    after a differing digest, when it must not be kept (`held` is then empty, so that only a full snapshot fits).
    """
    if is_standby(held, message.session, now, live_for):
        return _conflict(held, "superseded", "another agent reports this cluster")
    if message.session == held.session and message.sequence <= held.sequence:
        return Verdict(200, _accepted(held), replace(held, heard_at=now))
    if message.kind == FULL:
        new = State.of(message.records)
        if new.digest != message.digest:
            return _conflict(held, "resync_required", "the digest does not fit the records")
        changes = diff(state.records, new.records)
        state.records, state.total = new.records, new.total
        return _take(held, message, changes, now)
    if (message.session, message.base_sequence, message.base_digest) != (held.session, held.sequence, held.digest):
        return _conflict(held, "resync_required", "a message before this one is missing")
    state.apply(message.changes)
    if state.digest != message.digest:
        return _conflict(replace(held, sequence=0, digest=""), "resync_required", "the digests differ after the change")
    return _take(held, message, message.changes, now)


def _take(held: Held, message: Message, changes: Changes, now: datetime) -> Verdict:
    same = message.session == held.session
    seen = held.sample if same else 0
    former = held.former
    if not same:
        earlier = [s for s in (*former, held.session) if s and s != message.session]
        former = tuple(earlier[-MOST_FORMER_SESSIONS:])
    fresh = tuple(s for s in message.samples if s.number > seen)
    after = Held(
        session=message.session,
        sequence=message.sequence,
        digest=message.digest,
        sample=max((s.number for s in fresh), default=seen),
        former=former,
        heard_at=now,
    )
    return Verdict(200, _accepted(after), after, applied=True, changes=changes, samples=fresh)


def _accepted(held: Held) -> dict[str, Any]:
    return {"accepted": held.sequence, "digest": held.digest}


def read_heartbeat(body: bytes) -> Beat:
    """Return a heartbeat. Raises BadMessage."""
    if len(body) > LARGEST_HEARTBEAT:
        raise BadMessage("too_large", f"a heartbeat of more than {LARGEST_HEARTBEAT} bytes")
    try:
        raw = json.loads(body)
        if not isinstance(raw, dict):
            raise WireError("not an object")
        if raw.get("format") != FORMAT:
            raise BadMessage("unsupported_format", f"this platform reads {FORMAT}")
        return Beat(
            session=_short(raw["session"]),
            sequence=_count(raw["sequence"]),
            digest=str(raw.get("digest") or "")[:64],
            at=moment(raw["at"]),
            cluster_uid=str((raw.get("cluster") or {}).get("uid") or "")[:80],
            sources={str(n)[:80]: from_wire(Source, v) for n, v in (raw.get("sources") or {}).items()},
            counts={str(n)[:80]: _count(v) for n, v in (raw.get("counts") or {}).items()},
            order_results=tuple(_result(r) for r in raw.get("order_results") or ()),
            raw=raw,
        )
    except (WireError, KeyError, TypeError, AttributeError, ValueError, RecursionError) as bad:
        if isinstance(bad, BadMessage):
            raise
        raise BadMessage("malformed", str(bad)[:300]) from None


def _short(value: Any) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 80:
        raise WireError("session is no short text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise WireError("a count was expected")
    return value


def _result(value: Any) -> dict[str, str]:
    return {name: str(value.get(name) or "")[:300] for name in ("id", "status", "detail", "at")}


def needs_resync(held: Held, beat: Beat) -> bool:
    """Return whether the agent must send everything: it believes that we hold what we do not hold.

    When we are ahead of it within its session, an answer of ours was lost or is on its way; its repeated message will
    settle that.
    """
    if beat.session != held.session or held.sequence < beat.sequence:
        return True
    return held.sequence == beat.sequence and held.digest != beat.digest


def heartbeat_reply(
    held: Held, beat: Beat, now: datetime, live_for: timedelta = LIVE_FOR, **more: Any
) -> dict[str, Any]:
    """Return the answer to a heartbeat; `more` may add intervals, sync_now and orders."""
    standby = is_standby(held, beat.session, now, live_for)
    return {
        "received": True,
        "server_time": iso(now),
        "standby": standby,
        "resync": not standby and needs_resync(held, beat),
        **more,
    }


def heard(held: Held, beat: Beat, now: datetime) -> Held:
    """Return `held` with the moment noted when the heartbeat is of the agent whose report we hold."""
    return replace(held, heard_at=now) if beat.session == held.session else held


def clock_skew(sent_at: float | None, received_at: datetime) -> timedelta:
    """Return how far our clock is ahead of the agent's, from the header X-Curfew-Sent-At; zero within 5 s or without it."""
    if sent_at is None:
        return timedelta()
    try:
        skew = timedelta(seconds=received_at.timestamp() - sent_at)
    except OverflowError:
        return timedelta()
    return skew if abs(skew) > timedelta(seconds=5) else timedelta()


def corrected(samples: Iterable[Sample], skew: timedelta) -> tuple[Sample, ...]:
    """Return the samples with their times told by our clock."""
    return tuple(replace(s, at=s.at + skew) for s in samples) if skew else tuple(samples)


__all__ = [
    "DELTA",
    "FULL",
    "BadMessage",
    "Beat",
    "Changes",
    "Cluster",
    "Held",
    "Message",
    "Sample",
    "Snapshot",
    "State",
    "Usage",
    "Verdict",
    "clock_skew",
    "corrected",
    "heard",
    "heartbeat_reply",
    "is_standby",
    "needs_resync",
    "read",
    "read_heartbeat",
    "receive",
    "refusal",
]
