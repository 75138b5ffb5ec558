"""Docker's framing of logs: 8 bytes of head (stream, three zeros, length) before each piece, and HTTP's chunks around
them. Pure."""

from __future__ import annotations

from collections.abc import Iterable

HEAD = 8
STREAMS = {1: "stdout", 2: "stderr"}
NUMBERS = {name: number for number, name in STREAMS.items()}


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


def joined(pieces: Iterable[tuple[str, bytes | bytearray]]) -> bytes:
    """Pieces of both streams framed as Docker frames them."""
    parts: list[bytes | bytearray] = []
    for stream, content in pieces:
        parts += (NUMBERS[stream].to_bytes(4, "little"), len(content).to_bytes(4, "big"), content)
    return b"".join(parts)


class Unchunker:
    """Takes a chunked HTTP body as it arrives and gives what is in it. Docker makes a chunk of every line."""

    def __init__(self) -> None:
        self._rest = b""
        self.ended = False

    def feed(self, data: bytes) -> bytes:
        """The content of the chunks that are whole now. Raises BadFrame."""
        data = self._rest + data if self._rest else data
        at, end, found = 0, len(data), []
        while (line := data.find(b"\r\n", at)) >= 0:
            try:
                stop = line + 2 + int(data[at:line], 16)
            except ValueError:
                raise BadFrame(f"unexpected head of a chunk {data[at:line][:20]!r}") from None
            if stop == line + 2:
                self.ended = True
                break
            if stop + 2 > end:
                break
            found.append(data[line + 2 : stop])
            at = stop + 2
        self._rest = data[at:]
        return b"".join(found)
