"""Docker's framing of logs: 8 bytes of head (stream, three zeros, length) before each piece. Pure."""

from __future__ import annotations

HEAD = 8
STREAMS = {1: "stdout", 2: "stderr"}


class BadFrame(ValueError):
    """The bytes are not framed as Docker frames them."""


class Demultiplexer:
    """Takes bytes as they arrive, in any cut, and gives the pieces of both streams in their order."""

    def __init__(self) -> None:
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[tuple[str, bytes]]:
        """Pieces that are whole now; neighbours of one stream are joined. Raises BadFrame."""
        self._rest += data
        view, at, end = self._rest, 0, len(self._rest)
        found: list[tuple[str, bytearray]] = []
        while end - at >= HEAD:
            size = int.from_bytes(view[at + 4 : at + HEAD], "big")
            name = STREAMS.get(view[at])
            if name is None or view[at + 1 : at + 4] != b"\0\0\0":
                raise BadFrame(f"unexpected frame head {bytes(view[at : at + HEAD])!r}")
            if end - at - HEAD < size:
                break
            piece = view[at + HEAD : at + HEAD + size]
            if found and found[-1][0] == name:
                found[-1][1].extend(piece)
            else:
                found.append((name, piece))
            at += HEAD + size
        del self._rest[:at]
        return [(name, bytes(piece)) for name, piece in found]

    @property
    def pending(self) -> int:
        """Bytes of a piece that is not whole yet."""
        return len(self._rest)
