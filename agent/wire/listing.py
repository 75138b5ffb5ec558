"""Read a Kubernetes list as it arrives: one object at a time, whatever its size.

`json.loads` of a page of pods needs ten times the page in memory; this needs one object and one chunk.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

LONGEST_OBJECT = 16 * 1024 * 1024
_BLANK = " \t\r\n"
_decode = json.JSONDecoder().raw_decode


class BadListing(ValueError):
    """The answer is not the JSON of a Kubernetes list, or ended in the middle."""


class _Text:
    """The part of the answer that has arrived and was not consumed yet."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self.text = ""
        self.at = 0

    def more(self) -> None:
        """Take the next chunk. Raises BadListing at the end of the answer."""
        for chunk in self._chunks:
            new = self._utf8.decode(chunk)
            if new:
                self.text = self.text[self.at :] + new
                self.at = 0
                return
        raise BadListing("the answer ended in the middle")

    def finish(self) -> None:
        """Take the rest of the answer, which must be blank: only an answer read to its end frees its connection."""
        rest = self.text[self.at :] + "".join(self._utf8.decode(chunk) for chunk in self._chunks)
        if rest.strip():
            raise BadListing("something follows the list")

    def peek(self) -> str:
        """Return the next character that is not blank, without taking it."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _BLANK:
                    return self.text[self.at]
                self.at += 1
            self.more()

    def take(self, *expected: str) -> str:
        """Take the next character, which must be one of the expected."""
        found = self.peek()
        if found not in expected:
            raise BadListing(f"{found!r} where {' or '.join(expected)} was expected")
        self.at += 1
        return found

    def value(self) -> Any:
        """Take one JSON value that is followed by something."""
        self.peek()
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except ValueError:
                end, value = len(self.text), None
            if end < len(self.text):
                self.at = end
                return value
            if len(self.text) - self.at > LONGEST_OBJECT:
                raise BadListing("a value is too long, or not JSON")
            self.more()


def read_list(chunks: Iterable[bytes], found: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Call `found` with each item, in order; return the rest of the list (kind, apiVersion, metadata).

    Fields may come in any order: built-in kinds send metadata first, custom resources last. Raises BadListing;
    `found` may have been called by then: what it was given is true, but what it was not given may still exist.
    """
    source = _Text(chunks)
    rest: dict[str, Any] = {}
    source.take("{")
    while True:
        name = source.value()
        source.take(":")
        if name == "items" and source.peek() == "[":
            for item in _items(source):
                found(item)
        else:
            rest[str(name)] = source.value()
        if source.take(",", "}") == "}":
            source.finish()
            return rest


def _items(source: _Text) -> Iterator[dict[str, Any]]:
    source.take("[")
    if source.peek() == "]":
        source.take("]")
        return
    while True:
        item = source.value()
        if isinstance(item, dict):
            yield item
        if source.take(",", "]") == "]":
            return


def read_lines(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the events of a watch: one JSON object a line. Raises BadListing on a broken or half line."""
    rest = b""
    for chunk in chunks:
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        if len(rest) > LONGEST_OBJECT:
            raise BadListing("an event is too long")
        yield from (_line(line) for line in lines if line.strip())
    if rest.strip():
        raise BadListing("the watch ended in the middle of an event")


def _line(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        raise BadListing("an event is not JSON") from None
    if not isinstance(event, dict):
        raise BadListing("an event is not an object")
    return event
