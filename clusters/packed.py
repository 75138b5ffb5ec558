"""JSON packed for a database column: quick to write, bounded to read."""

from __future__ import annotations

import json
import zlib
from itertools import islice
from typing import Any

LARGEST = 512 * 1024 * 1024
BATCH = 200


def pack(value: Any) -> bytes:
    """The value as compressed JSON."""
    packer = zlib.compressobj(1)
    parts = [packer.compress(piece.encode("utf-8", "replace")) for piece in _pieces(value)]
    parts.append(packer.flush())
    return b"".join(parts)


def _pieces(value: Any) -> Any:
    """A table is written some rows at a time, so that its text never stands in memory as a whole."""
    if not isinstance(value, dict):
        yield json.dumps(value, separators=(",", ":"), ensure_ascii=False)
        return
    yield "{"
    rows = iter(value.items())
    first = True
    while batch := dict(islice(rows, BATCH)):
        text = json.dumps(batch, separators=(",", ":"), ensure_ascii=False)
        yield text[1:-1] if first else f",{text[1:-1]}"
        first = False
    yield "}"


def unpack(packed: bytes | memoryview) -> Any:
    """What `pack` was given. Raises ValueError for damaged or oversized text."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(bytes(packed), LARGEST)
    except zlib.error as bad:
        raise ValueError(f"damaged: {bad}") from None
    if unpacker.unconsumed_tail or not unpacker.eof:
        raise ValueError("cut off or too large")
    return json.loads(text)
