"""One message of a cluster agent, read strictly: bounded, complete, of a known format.

`decode` is the platform's side. The agent writes the same form from prepared texts (`agent.cluster.outbox`), so that
10,000 records never stand in memory as objects; a test holds the two together.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from agent.wire.codec import WireError, from_wire, moment
from agent.wire.delta import Changes, Table
from agent.wire.model import FORMAT, Cluster, Source

LARGEST_BODY = 32 * 1024 * 1024
LARGEST_TEXT = 256 * 1024 * 1024
FULL, DELTA = "full", "delta"


class BadMessage(ValueError):
    """A message that cannot be taken. `code`: malformed, too_large or unsupported_format."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code, self.detail = code, detail


class Usage(NamedTuple):
    """What was used at a moment: billionths of a core and bytes; None when a recorded trace does not say."""

    cpu: int | None
    memory: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at metrics.k8s.io. `number` counts up within a session; `pods` is by pod key, then container. `past`: an
    hour from before the agent came, which says nothing of what the cluster was like then."""

    number: int
    at: datetime
    window_seconds: int = 0
    past: bool = False
    nodes: dict[str, Usage] = field(default_factory=dict)
    pods: dict[str, dict[str, Usage]] = field(default_factory=dict)


@dataclass(slots=True)
class Message:
    """A full snapshot (`records`) or a delta (`changes`) on what the message before left behind."""

    kind: str
    session: str
    sequence: int
    digest: str
    at: datetime
    cluster: Cluster
    base_sequence: int = 0
    base_digest: str = ""
    agent: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, Source] = field(default_factory=dict)
    records: dict[str, Table] = field(default_factory=dict)
    changes: Changes = field(default_factory=Changes)
    samples: tuple[Sample, ...] = ()


def inflate(body: bytes, *, limit: int = LARGEST_TEXT) -> bytes:
    """Return the text of a gzip body. Raises BadMessage when it is cut off, damaged or larger than the limit."""
    if len(body) > LARGEST_BODY:
        raise BadMessage("too_large", f"{len(body)} bytes, at most {LARGEST_BODY}")
    unpacker = zlib.decompressobj(wbits=31)
    try:
        text = unpacker.decompress(body, limit)
    except zlib.error:
        raise BadMessage("malformed", "the body is not gzip, or damaged") from None
    if unpacker.unconsumed_tail:
        raise BadMessage("too_large", f"more than {limit} bytes of text")
    if not unpacker.eof:
        raise BadMessage("malformed", "the body is cut off")
    return text


def decode(body: bytes, *, gzip: bool = True) -> Message:
    """Read a message. Raises BadMessage; nothing of a bad message may be used."""
    text = inflate(body) if gzip else body
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise BadMessage("malformed", "not JSON") from None
    if not isinstance(raw, dict):
        raise BadMessage("malformed", "not an object")
    if raw.get("format") != FORMAT:
        raise BadMessage("unsupported_format", f"format {str(raw.get('format'))[:20]}, this platform reads {FORMAT}")
    try:
        return _message(raw)
    except WireError as bad:
        raise BadMessage("malformed", str(bad)[:300]) from None


def _message(raw: dict[str, Any]) -> Message:
    kind = raw.get("kind")
    if kind not in {FULL, DELTA}:
        raise WireError("kind is neither full nor delta")
    base = _object(raw, "base")
    return Message(
        kind=kind,
        session=_text(raw, "session"),
        sequence=_count(raw, "sequence"),
        digest=_text(raw, "digest"),
        at=moment(raw.get("at")),
        cluster=from_wire(Cluster, raw.get("cluster")),
        base_sequence=_count(base, "sequence") if kind == DELTA else 0,
        base_digest=_text(base, "digest") if kind == DELTA else "",
        agent=_object(raw, "agent"),
        sources={name: from_wire(Source, value) for name, value in _object(raw, "sources").items()},
        records=_tables(raw, "records") if kind == FULL else {},
        changes=Changes(_tables(raw, "set"), _keys(raw, "gone")) if kind == DELTA else Changes(),
        samples=_samples(raw),
    )


def _text(raw: dict[str, Any], name: str) -> str:
    value = raw.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 200:
        raise WireError(f"{name} is missing or no short text")
    return value


def _count(raw: dict[str, Any], name: str) -> int:
    value = raw.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 63:
        raise WireError(f"{name} is no count")
    return value


def _object(raw: dict[str, Any], name: str) -> dict[str, Any]:
    value = raw.get(name, {})
    if not isinstance(value, dict):
        raise WireError(f"{name} is no object")
    return value


def _tables(raw: dict[str, Any], name: str) -> dict[str, Table]:
    tables = _object(raw, name)
    for collection, table in tables.items():
        if not isinstance(table, dict) or not all(isinstance(record, dict) for record in table.values()):
            raise WireError(f"{name}.{collection[:40]} is no table of records")
    return tables


def _keys(raw: dict[str, Any], name: str) -> dict[str, list[str]]:
    tables = _object(raw, name)
    for collection, keys in tables.items():
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise WireError(f"{name}.{collection[:40]} is no list of keys")
    return tables


def _samples(raw: dict[str, Any]) -> tuple[Sample, ...]:
    found = raw.get("usage", [])
    if not isinstance(found, list):
        raise WireError("usage is no list")
    return tuple(_sample(item) for item in found)


def _sample(raw: Any) -> Sample:
    if not isinstance(raw, dict):
        raise WireError("a usage sample is no object")
    pods = _object(raw, "pods")
    if not all(isinstance(boxes, dict) for boxes in pods.values()):
        raise WireError("usage of a pod is no object")
    return Sample(
        number=_count(raw, "n"),
        at=moment(raw.get("at")),
        window_seconds=_count(raw, "window") if "window" in raw else 0,
        past=raw.get("past") is True,
        nodes={name: _used(value) for name, value in _object(raw, "nodes").items()},
        pods={key: {name: _used(value) for name, value in boxes.items()} for key, boxes in pods.items()},
    )


def _used(value: Any) -> Usage:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(v is None or (isinstance(v, int) and not isinstance(v, bool) and 0 <= v < 1 << 63) for v in value)
    ):
        raise WireError("usage is no pair of counts")
    return Usage(value[0], value[1])
