"""A small threaded HTTP(S) server to build fakes from, and servers that misbehave on purpose."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

HTML = (
    "<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Please sign in to the network</h1></body></html>"
)


@dataclass
class Request:
    """What a fake is asked: method, path, query (first values), headers, body."""

    method: str
    path: str
    query: dict[str, str]
    headers: Any
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body or b"{}")

    def form(self) -> dict[str, str]:
        return {k: v[0] for k, v in parse_qs(self.body.decode()).items()}

    @property
    def bearer(self) -> str:
        return str(self.headers.get("Authorization") or "").removeprefix("Bearer ")


@dataclass
class Answer:
    """What a fake says. A dict or list body becomes JSON; None is an empty body."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    kind: str = "application/json; charset=utf-8"

    def encoded(self) -> bytes:
        if self.body is None:
            return b""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass
class Fault:
    """One planned failure: the next `times` requests whose "METHOD path" contains `match` get `answer`."""

    match: str
    answer: Answer
    times: int = 1


class FakeServer:
    """Serve `answer(request)` until the block ends. `log` holds every request, `faults` go first."""

    def __init__(self, *, tls: tuple[str, str] | None = None) -> None:
        self.log: list[Request] = []
        self.faults: list[Fault] = []
        self.lock = threading.RLock()
        self._tls = tls
        self._server: ThreadingHTTPServer | None = None

    def answer(self, request: Request) -> Answer:
        raise NotImplementedError

    @property
    def port(self) -> int:
        assert self._server is not None, "use it as a context manager"
        return self._server.server_port

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def fail(self, match: str, answer: Answer, *, times: int = 1) -> None:
        """Plan a failure."""
        with self.lock:
            self.faults.append(Fault(match, answer, times))

    def requests(self, match: str) -> list[Request]:
        """Return the logged requests whose "METHOD path" contains `match`."""
        return [r for r in self.log if match in f"{r.method} {r.path}"]

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def log_message(self, *args: object) -> None:
                pass

            def serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = urlsplit(self.path)
                query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
                answer = outer.handle(Request(self.command, parts.path, query, self.headers, body))
                data = answer.encoded()
                self.send_response(answer.status)
                self.send_header("Content-Type", answer.kind)
                self.send_header("Content-Length", str(len(data)))
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)

        for verb in ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"):
            setattr(Handler, f"do_{verb}", Handler.serve)
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        if self._tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self._tls)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def handle(self, request: Request) -> Answer:
        with self.lock:
            self.log.append(request)
            for fault in self.faults:
                if fault.match in f"{request.method} {request.path}":
                    fault.times -= 1
                    if fault.times <= 0:
                        self.faults.remove(fault)
                    return fault.answer
            return self.answer(request)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.shutdown()
        self._server.server_close()


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up or refuses our certificate is part of the tests."""


class SaysAlways(FakeServer):
    """Answer everything alike: a captive portal, a proxy's error page, half a document."""

    def __init__(
        self, body: Any, *, status: int = 200, kind: str = "text/html", tls: tuple[str, str] | None = None
    ) -> None:
        super().__init__(tls=tls)
        self.fixed = Answer(status, body, kind=kind)

    def answer(self, request: Request) -> Answer:
        return self.fixed


class Hangs:
    """Take connections and never say a word."""

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *args: object) -> None:
        self._socket.close()


def free_port() -> int:
    """Return a port on which nothing listens at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Certificates:
    """Files of a test authority: its own certificate, one for 127.0.0.1 and localhost, one for a client."""

    ca: str
    cert: str
    key: str
    client_cert: str
    client_key: str

    @property
    def server(self) -> tuple[str, str]:
        return self.cert, self.key


def make_certificates(folder: Path) -> Certificates:
    """Write a fresh test authority with a server and a client certificate into `folder`."""
    import datetime as dt
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = dt.datetime.now(dt.UTC)

    def issue(name: str, issuer: Any, *, usage: Any = None) -> Any:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        signer_key, signer_name = (key, subject) if issuer is None else (issuer[1], issuer[0].subject)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer_name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if usage is not None:
            names = x509.SubjectAlternativeName(
                [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            )
            builder = builder.add_extension(names, critical=False).add_extension(
                x509.ExtendedKeyUsage([usage]), critical=False
            )
        return builder.sign(signer_key, hashes.SHA256()), key

    def write(stem: str, pair: Any) -> tuple[str, str]:
        cert, key = folder / f"{stem}.pem", folder / f"{stem}-key.pem"
        cert.write_bytes(pair[0].public_bytes(serialization.Encoding.PEM))
        key.write_bytes(
            pair[1].private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return str(cert), str(key)

    folder.mkdir(parents=True, exist_ok=True)
    authority = issue("Curfew test authority", None)
    ca, _ = write("ca", authority)
    cert, key = write("server", issue("127.0.0.1", authority, usage=ExtendedKeyUsageOID.SERVER_AUTH))
    client_cert, client_key = write("client", issue("curfew", authority, usage=ExtendedKeyUsageOID.CLIENT_AUTH))
    return Certificates(ca, cert, key, client_cert, client_key)
