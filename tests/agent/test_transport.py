"""HTTP of agents against servers that are right, rude, slow and gone."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.transport import (
    Backoff,
    BadAddress,
    Bounded,
    Endpoint,
    Reply,
    Transport,
    Unreachable,
    jittered,
    pack,
    read_token,
)
from agent.wire.message import BadMessage, inflate
from tests.fakes.server import Answer, FakeServer, Hangs, Request, SaysAlways, make_certificates

pytestmark = pytest.mark.integration


class Echo(FakeServer):
    def answer(self, request: Request) -> Answer:
        return Answer(200, {"headers": dict(request.headers), "size": len(request.body), "path": request.path})


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


def transport(url: str, **more: object) -> Transport:
    return Transport(Endpoint(url, **more), lambda: "the-token")  # type: ignore[arg-type]


def test_a_request_carries_token_and_agent(echo: Echo) -> None:
    line = transport(f"{echo.url}/base")
    told = line.request("POST", "/x", content={"a": 1}).json()
    assert told["path"] == "/base/x"
    assert told["headers"]["Authorization"] == "Agent the-token"
    assert told["headers"]["Content-Type"] == "application/json"
    assert told["headers"]["User-Agent"].startswith("curfew-agent/")
    packed = line.request("POST", "/x", body=pack(b"{}"), packed=True).json()
    assert packed["headers"]["Content-Encoding"] == "gzip"
    line.close()


def test_one_connection_serves_many_requests_and_survives_its_end() -> None:
    accepted = []

    def serve(listener: socket.socket) -> None:
        for answers in (2, 1):  # two answers on the first connection, then it closes without a word
            connection, _ = listener.accept()
            accepted.append(connection)
            for _ in range(answers):
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        line = transport(f"http://127.0.0.1:{listener.getsockname()[1]}")
        for _ in range(3):
            assert line.request("GET", "/").ok
        thread.join(5)
        line.close()
    assert len(accepted) == 2


def test_a_redirect_is_not_followed() -> None:
    with Echo() as other, FakeServer() as server:
        server.answer = lambda request: Answer(302, None, {"Location": f"{other.url}/login"})  # type: ignore[method-assign]
        with pytest.raises(Unreachable, match="redirected to"):
            transport(server.url).request("GET", "/")
        assert other.log == []


def test_plain_http_is_for_this_machine_only() -> None:
    with pytest.raises(BadAddress, match="not encrypted"):
        Endpoint("http://curfew.example.com")
    Endpoint("http://curfew.example.com", allow_http=True)
    for url in ("ftp://x", "curfew.example.com", "https://", "https://user:secret@x", "https://x/?a=b"):
        with pytest.raises(BadAddress):
            Endpoint(url)


def test_certificates_are_checked(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    with SaysAlways("{}", tls=certificates.server) as server:
        with pytest.raises(Unreachable, match="not trusted"):
            transport(server.url).request("GET", "/")
        assert transport(server.url, ca_file=certificates.ca).request("GET", "/").ok
    with pytest.raises(BadAddress, match="cannot be read"):
        Endpoint("https://x", ca_file=str(tmp_path / "never.pem"))


def test_silence_and_absence_are_unreachable() -> None:
    with Hangs() as server, pytest.raises(Unreachable, match="no answer in time"):
        transport(server.url).request("GET", "/", timeout=0.2)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(Unreachable, match="refused"):
        transport(f"http://127.0.0.1:{port}").request("GET", "/")


def test_an_endless_answer_is_cut() -> None:
    with SaysAlways("x" * (9 * 1024 * 1024)) as server, pytest.raises(Unreachable, match="more than"):
        transport(server.url).request("GET", "/")


def test_a_captive_portal_is_no_json() -> None:
    with SaysAlways("<html>Please sign in</html>") as server:
        assert transport(server.url).request("GET", "/").json() == {}


def test_a_proxy_of_the_environment_is_used_for_https_only_when_it_should(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    away = Endpoint("https://curfew.example")
    assert (away.connect(1).host, away.connect(1).port) == ("proxy.example", 3128)
    assert Endpoint("https://curfew.example", use_proxy=False).connect(1).host == "curfew.example"
    assert Endpoint("https://localhost").connect(1).host == "localhost"
    monkeypatch.setenv("no_proxy", "curfew.example")
    assert Endpoint("https://curfew.example").connect(1).host == "curfew.example"


def test_the_token_file_is_read_anew(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    token = read_token("", str(file))
    assert token() == "one"
    file.write_text("two")
    assert token() == "two"
    file.unlink()
    with pytest.raises(Unreachable):
        token()
    with pytest.raises(BadAddress):
        read_token("", "")


@given(st.integers(0, 40), st.floats(0, 100))
def test_waits_grow_to_a_limit_and_are_never_shorter_than_asked(failures: int, asked: float) -> None:
    backoff = Backoff(1.0, 30.0)
    for _ in range(failures):
        backoff.failed()
    wait = backoff.failed(asked)
    whole = min(30.0, 2.0 ** min(failures, 16))
    assert max(asked, whole / 2) <= wait <= max(asked, whole)
    backoff.succeeded()
    assert backoff.failed() <= 1.0


def test_waits_differ() -> None:
    assert len({Backoff(1.0, 30.0).failed() for _ in range(20)}) > 10
    assert len({jittered(10.0) for _ in range(20)}) > 10
    assert all(9 <= jittered(10.0) <= 11 for _ in range(100))


@given(st.lists(st.integers(0, 50), max_size=40))
def test_the_buffer_keeps_the_newest_that_fit(sizes: list[int]) -> None:
    buffer: Bounded[int] = Bounded(items=10, size=100)
    for number, size in enumerate(sizes):
        buffer.push(number, size)
    kept = list(buffer)
    assert kept == list(range(len(sizes)))[len(sizes) - len(kept) :]
    assert len(kept) <= 10
    assert len(kept) <= 1 or sum(sizes[n] for n in kept) <= 100
    assert buffer.dropped == len(sizes) - len(kept)


@pytest.mark.parametrize(("header", "seconds"), [("7", 7.0), ("-3", 0.0), ("soon", 0.0), ("99999", 3600.0), ("", 0.0)])
def test_retry_after(header: str, seconds: float) -> None:
    assert Reply(429, {"retry-after": header}, b"").retry_after == seconds


@given(st.binary(max_size=300), st.integers(0, 400))
def test_inflate_takes_whole_gzip_only(content: bytes, cut: int) -> None:
    body = pack(content)
    assert inflate(body) == content
    if cut < len(body):
        with pytest.raises(BadMessage) as bad:
            inflate(body[:cut])
        assert bad.value.code == "malformed"


def test_a_gzip_bomb_is_refused() -> None:
    with pytest.raises(BadMessage) as bad:
        inflate(pack(b"0" * 10_000_000), limit=1_000_000)
    assert bad.value.code == "too_large"
    with pytest.raises(BadMessage):
        inflate(json.dumps({}).encode())
