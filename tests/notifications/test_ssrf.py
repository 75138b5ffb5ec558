"""Addresses that users give cannot lead inside."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from core import ssrf


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    rows = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 0)) for a in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: rows)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.9",
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "100.64.0.1",
        "100.100.100.200",
        "224.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::1",
        "::",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "ff02::1",
    ],
)
def test_what_is_not_the_public_internet_is_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, address)
    with pytest.raises(ssrf.Refused):
        ssrf.check_url("https://hooks.example.com/x")
    answers(monkeypatch, "93.184.216.34", address)  # one bad address among good ones is enough
    with pytest.raises(ssrf.Refused):
        ssrf.check_url("https://hooks.example.com/x")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://x/",
        "https://",
        "https://user:pw@example.com/",
        "https://example.com/a b",
        "https://example.com:99999/",
        "http://example.com/\r\nX: y",
        "javascript:alert(1)",
        "//example.com",
    ],
)
def test_odd_addresses_are_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, "93.184.216.34")
    with pytest.raises(ssrf.Refused):
        ssrf.check_url(url)


@pytest.mark.parametrize("host", ["127.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "localhost", "[::1]", "127.1"])
def test_other_spellings_of_this_machine_are_refused(host: str) -> None:
    with pytest.raises((ssrf.Refused, ssrf.Unreachable)):
        ssrf.post(f"http://{host}:9/", b"", {})


def test_the_operator_may_allow_a_network_but_never_metadata(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["0.0.0.0/0", "::/0"]
    assert ssrf.judge("10.1.2.3") == ""
    for address in ("169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"):
        assert ssrf.judge(address)


class Server:
    """A web server on this machine that notes what it gets."""

    def __init__(self, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status, self.headers, self.body = status, headers or {}, b"ok"
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((self.path, dict(self.headers), body))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *args: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Server:
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.server.shutdown()
        self.server.server_close()


def test_the_name_is_asked_once_and_the_judged_address_called(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]
    with Server() as server:
        asked = []
        original = socket.getaddrinfo

        def once(host: str, *rest: Any, **more: Any) -> Any:
            if host == "rebind.example.com":
                asked.append(host)
                return original("127.0.0.1" if len(asked) == 1 else "10.9.9.9", *rest, **more)
            return original(host, *rest, **more)

        monkeypatch.setattr(socket, "getaddrinfo", once)
        answer = ssrf.post(server.url.replace("127.0.0.1", "rebind.example.com") + "/hook?a=1", b"hello", {"X-A": "b"})
        assert (answer.status, answer.body, len(asked)) == (200, b"ok", 1)
        path, headers, body = server.got[0]
        assert (path, headers["X-A"], body) == ("/hook?a=1", "b", b"hello")
        assert headers["Host"].startswith("rebind.example.com")


def test_a_redirect_is_an_answer_and_is_not_followed(settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]
    with Server(302, {"Location": "http://169.254.169.254/latest/meta-data/"}) as server:
        assert ssrf.post(server.url, b"", {}).status == 302
        assert len(server.got) == 1
