"""Where a repository lies, for reading alone: a folder, a bucket on S3, or a server that speaks restic's `rest:`.

A `Store` lists names and reads files; a `Line` of it, one for each thread, reads pieces of packs into memory over a
connection that is kept. Raises Lost for whatever goes wrong: the caller leaves the work to restic then.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import html
import http.client
import json
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote, urlsplit

TRIES = 4
PAUSE = 0.4
TIMEOUT = 60.0
NAME = re.compile(r"[0-9a-f]{64}")
# Behind a line several requests at once hide its latency.
FAR_LINES = 6
# Bytes that nobody wants are read rather than asking twice, up to so many.
FAR_GAP = 512 * 1024
EMPTY = hashlib.sha256(b"").hexdigest()
BLOCK = 1024 * 1024


T = TypeVar("T")


class Lost(Exception):
    """The repository is of a kind that is not known here, or cannot be read; the text says why."""


class Line(Protocol):
    """One thread's access."""

    def read_into(self, pack: str, start: int, into: memoryview, upto: int = 0) -> None:
        """Fill `into` with the bytes of a pack from `start` on. Raises Lost.

        `upto` is how far it will be read on from there, so that one request does for all of it.
        """

    def close(self) -> None: ...


class Store(Protocol):
    """`lines` is how many threads are of use; 0 means as many as there are cores."""

    lines: int

    def names(self, kind: str) -> list[str]:
        """Of "keys", "snapshots" or "index": the names (64 hex digits), sorted. Raises Lost."""

    def whole(self, kind: str, name: str = "") -> bytes:
        """One file; "config" has no name. Raises Lost."""

    def line(self) -> Line: ...


def store(order: Mapping[str, object]) -> Store:
    """What the order's repository is. Raises Lost for a kind that is not known."""
    where = str(order["repository"])
    given = order.get("environment")
    keys = {str(k): str(v) for k, v in given.items()} if isinstance(given, Mapping) else {}
    if order.get("restic_options"):
        raise Lost("restic has options of its own here")
    if where.startswith("/"):
        return Folder(Path(where))
    if where.startswith("s3:"):
        return Bucket(where.removeprefix("s3:"), keys)
    if where.startswith("rest:"):
        platform = order.get("platform")
        authority = platform.get("ca_file") if isinstance(platform, Mapping) else ""
        return Rest(where.removeprefix("rest:"), keys, str(authority or ""))
    raise Lost(f"a repository at {where.partition(':')[0]}: is not known")


class Folder:
    """A folder of this machine."""

    lines = 0

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def names(self, kind: str) -> list[str]:
        try:
            return sorted(file.name for file in (self._folder / kind).iterdir() if NAME.fullmatch(file.name))
        except OSError as bad:
            raise Lost(f"{kind} cannot be listed: {bad.strerror}") from bad

    def whole(self, kind: str, name: str = "") -> bytes:
        try:
            return (self._folder / kind / name).read_bytes() if name else (self._folder / kind).read_bytes()
        except OSError as bad:
            raise Lost(f"{kind}/{name[:8]} cannot be read: {bad.strerror}") from bad

    def line(self) -> Line:
        return _FolderLine(f"{self._folder}/data")


class _FolderLine:
    """The pack that was read last stays open."""

    def __init__(self, data: str) -> None:
        self._data, self._pack, self._handle = data, "", -1

    def read_into(self, pack: str, start: int, into: memoryview, upto: int = 0) -> None:
        try:
            if pack != self._pack:
                self.close()
                self._handle = os.open(f"{self._data}/{pack[:2]}/{pack}", os.O_RDONLY | os.O_CLOEXEC)
                self._pack = pack
            done = 0
            while done < len(into):
                got = os.preadv(self._handle, [into[done:]], start + done)
                if not got:
                    raise Lost(f"pack {pack[:8]} is too short")
                done += got
        except OSError as bad:
            raise Lost(f"pack {pack[:8]} cannot be read: {bad.strerror}") from bad

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
        self._pack, self._handle = "", -1


class _Web:
    """Requests to one host over a kept connection; each thread has its own."""

    def __init__(self, base: str, sign: Callable[[str, str], dict[str, str]], authority: str = "") -> None:
        parts = urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Lost("its address is not understood")
        self._secure, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._sign, self._authority = sign, authority
        self._link: http.client.HTTPConnection | None = None

    def get(self, path: str, query: str = "") -> bytes:
        """The body. Raises Lost."""
        return self.patiently(path, lambda: self.ask(path, query).read())

    def patiently(self, path: str, do: Callable[[], T]) -> T:
        """What `do` returns, which is tried again when the line or the server fails. Raises Lost."""
        problem = ""
        for trial in range(TRIES):
            if trial:
                time.sleep(PAUSE * 2**trial)
            try:
                return do()
            except (OSError, http.client.HTTPException) as bad:
                self.close()
                problem = str(bad) or type(bad).__name__
        raise Lost(f"{path.rpartition('/')[2][:8] or path} cannot be read: {problem}")

    def ask(self, path: str, query: str = "", part: tuple[int, int] | None = None) -> http.client.HTTPResponse:
        """A reply of status 200 or 206 whose body is still to be read. `part` is where it begins and ends."""
        if self._link is None:
            if self._secure:
                trusted = ssl.create_default_context(cafile=self._authority or None)
                self._link = http.client.HTTPSConnection(self._host, self._port, timeout=TIMEOUT, context=trusted)
            else:
                self._link = http.client.HTTPConnection(self._host, self._port, timeout=TIMEOUT)
        headers = self._sign(path, query)
        if part is not None:
            headers["Range"] = f"bytes={part[0]}-{part[1] - 1}"
        self._link.request("GET", path + (f"?{query}" if query else ""), headers=headers)
        reply = self._link.getresponse()
        if reply.status in (200, 206):
            return reply
        reply.read()
        if reply.status >= 500 or reply.status == 429:
            raise http.client.HTTPException(f"status {reply.status}")
        raise Lost(f"{path.rpartition('/')[2][:8] or path} cannot be read: status {reply.status}")

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None


class _WebLine:
    """A reply stays open while what is asked for next lies in it, a little further on."""

    def __init__(self, web: _Web, path: Callable[[str, str], str]) -> None:
        self._web, self._path = web, path
        self._reply: http.client.HTTPResponse | None = None
        self._pack, self._at, self._end = "", 0, 0

    def read_into(self, pack: str, start: int, into: memoryview, upto: int = 0) -> None:
        path = self._path("data", pack)

        def fill() -> None:
            try:
                self._go_to(pack, path, start, max(upto, start + len(into)))
                self._fill(into)
            except BaseException:
                self._reply = None
                raise

        self._web.patiently(path, fill)

    def _go_to(self, pack: str, path: str, start: int, end: int) -> None:
        further = start - self._at
        if self._reply is None or pack != self._pack or not 0 <= further <= FAR_GAP or end > self._end:
            if self._reply is not None:
                self._web.close()  # what is left of it is not worth reading
            self._reply = self._web.ask(path, part=(start, end))
            self._pack, self._end = pack, end
            self._at = start if self._reply.status == 206 else 0  # a server without ranges sends it all
        scrap = memoryview(bytearray(min(BLOCK, start - self._at)))
        while self._at < start:
            self._fill(scrap[: start - self._at])

    def _fill(self, into: memoryview) -> None:
        assert self._reply is not None
        done = 0
        while done < len(into):
            got = self._reply.readinto(into[done:])
            if not got:
                raise http.client.IncompleteRead(b"", len(into) - done)
            done += got
        self._at += done
        if self._at == self._end:
            whole, self._reply = self._reply, None
            if whole.status == 206:
                whole.read()
            else:
                self._web.close()

    def close(self) -> None:
        self._reply = None
        self._web.close()


class Bucket:
    """`https://host/bucket/folder` on S3, with the keys of the order: those of a session too."""

    lines = FAR_LINES

    def __init__(self, where: str, keys: Mapping[str, str]) -> None:
        if "//" not in where:
            where = f"https://{where}"
        parts = urlsplit(where)
        self._base = f"{parts.scheme}://{parts.netloc}"
        self._host = parts.netloc
        bucket, _, folder = parts.path.strip("/").partition("/")
        self._bucket, self._folder = bucket, f"{folder.strip('/')}/" if folder.strip("/") else ""
        self._region = keys.get("AWS_DEFAULT_REGION") or "us-east-1"
        try:
            self._id, self._secret = keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]
        except KeyError:
            raise Lost("the order has no keys for the bucket") from None
        self._session = keys.get("AWS_SESSION_TOKEN", "")
        if not bucket:
            raise Lost("no bucket is named")
        self._web = self._new_web()

    def _new_web(self) -> _Web:
        return _Web(self._base, self._signed)

    def _path(self, kind: str, name: str) -> str:
        middle = f"data/{name[:2]}/" if kind == "data" else f"{kind}/" if name else kind
        return quote(f"/{self._bucket}/{self._folder}{middle}{name}")

    def _signed(self, path: str, query: str) -> dict[str, str]:
        """Signature version 4. `query` is sorted and quoted already."""
        now = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        headers = {"host": self._host, "x-amz-content-sha256": EMPTY, "x-amz-date": now}
        if self._session:
            headers["x-amz-security-token"] = self._session
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        asked = f"GET\n{path}\n{query}\n{lines}\n{names}\n{EMPTY}"
        scope = f"{now[:8]}/{self._region}/s3/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(asked.encode()).hexdigest()}"
        key = f"AWS4{self._secret}".encode()
        for word in scope.split("/"):
            key = hmac.digest(key, word.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        headers["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._id}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return headers

    def names(self, kind: str) -> list[str]:
        found: list[str] = []
        mark = ""
        while True:
            asked = {"list-type": "2", "prefix": f"{self._folder}{kind}/"} | (
                {"continuation-token": mark} if mark else {}
            )
            query = "&".join(f"{k}={quote(v, safe='')}" for k, v in sorted(asked.items()))
            text = self._web.get(f"/{quote(self._bucket)}", query).decode(errors="replace")
            found += [html.unescape(key).rpartition("/")[2] for key in re.findall(r"<Key>([^<]*)</Key>", text)]
            more = re.search(r"<NextContinuationToken>([^<]*)</NextContinuationToken>", text)
            if more is None:
                return sorted(name for name in found if NAME.fullmatch(name))
            mark = html.unescape(more[1])

    def whole(self, kind: str, name: str = "") -> bytes:
        return self._web.get(self._path(kind, name))

    def line(self) -> Line:
        return _WebLine(self._new_web(), self._path)


class Rest:
    """restic's REST protocol; the name and password stand in the address or in the order's environment.

    The platform passes it on as a rule, so that the authority it is known by counts.
    """

    lines = FAR_LINES

    def __init__(self, where: str, keys: Mapping[str, str], authority: str = "") -> None:
        parts = urlsplit(where)
        self._base, self._folder, self._authority = where, parts.path.rstrip("/"), authority
        user = unquote(parts.username or "") or keys.get("RESTIC_REST_USERNAME", "")
        password = unquote(parts.password or "") or keys.get("RESTIC_REST_PASSWORD", "")
        self._headers = {"Accept": "application/vnd.x.restic.rest.v2"}
        if user or password:
            word = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {word}"
        self._web = self._new_web()

    def _new_web(self) -> _Web:
        return _Web(self._base, lambda path, query: dict(self._headers), self._authority)

    def _path(self, kind: str, name: str) -> str:
        return f"{self._folder}/{kind}/{name}" if name else f"{self._folder}/{kind}"

    def names(self, kind: str) -> list[str]:
        body = self._web.get(f"{self._folder}/{kind}/")
        found: list[str] = []
        with suppress(ValueError, TypeError, KeyError):
            found = [str(row["name"]) if isinstance(row, dict) else str(row) for row in json.loads(body)]
        return sorted(name for name in found if NAME.fullmatch(name))

    def whole(self, kind: str, name: str = "") -> bytes:
        return self._web.get(self._path(kind, name))

    def line(self) -> Line:
        return _WebLine(self._new_web(), self._path)
