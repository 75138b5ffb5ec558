"""The best API server to be had here, behind one interface: a real kube-apiserver with etcd, else our fake.

    with control_plane() as plane:
        Access(Endpoint(plane.url, ca_file=plane.ca_file), lambda: plane.token)

Real binaries are looked for in KUBEBUILDER_ASSETS and /usr/local/kubebuilder/bin. `CURFEW_CONTROL_PLANE=fake` or
`=real` decides by force; a real one that does not start is an error, never a silent fake.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.fakes.kube import FakeKube
from tests.fakes.server import free_port, make_certificates

START_SECONDS = 60.0


@dataclass(frozen=True)
class Plane:
    """Where the API server is and how to be its administrator. `fake` is None for a real one."""

    url: str
    token: str
    ca_file: str
    fake: FakeKube | None

    @property
    def real(self) -> bool:
        return self.fake is None


def binaries() -> Path | None:
    """Return the folder that holds both etcd and kube-apiserver, if there is one."""
    for folder in (os.environ.get("KUBEBUILDER_ASSETS"), "/usr/local/kubebuilder/bin"):
        if folder and all((Path(folder) / name).is_file() for name in ("etcd", "kube-apiserver")):
            return Path(folder)
    return None


@contextlib.contextmanager
def control_plane() -> Iterator[Plane]:
    """Start one and stop it afterwards."""
    wanted, folder = os.environ.get("CURFEW_CONTROL_PLANE", ""), binaries()
    if wanted == "real" and folder is None:
        raise RuntimeError("no kube-apiserver and etcd in KUBEBUILDER_ASSETS or /usr/local/kubebuilder/bin")
    with tempfile.TemporaryDirectory(prefix="curfew-plane-") as temporary:
        if folder is None or wanted == "fake":
            certificates = make_certificates(Path(temporary) / "pki")
            token = secrets.token_urlsafe(16)
            with FakeKube(token=token, tls=certificates.server) as fake:
                yield Plane(fake.url, token, certificates.ca, fake)
            return
        with _real(folder, Path(temporary)) as plane:
            yield plane


@contextlib.contextmanager
def _real(folder: Path, temporary: Path) -> Iterator[Plane]:
    certificates = make_certificates(temporary / "pki")
    token = secrets.token_urlsafe(24)
    (temporary / "tokens.csv").write_text(f"{token},admin,admin,system:masters\n", encoding="ascii")
    etcd_port, peer_port, port = free_port(), free_port(), free_port()
    etcd_url = f"http://127.0.0.1:{etcd_port}"
    etcd = [
        str(folder / "etcd"), f"--data-dir={temporary / 'etcd'}", "--unsafe-no-fsync",
        f"--listen-client-urls={etcd_url}", f"--advertise-client-urls={etcd_url}",
        f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
    ]  # fmt: skip
    server = [
        str(folder / "kube-apiserver"), f"--etcd-servers={etcd_url}", f"--secure-port={port}", "--bind-address=127.0.0.1",
        f"--tls-cert-file={certificates.cert}", f"--tls-private-key-file={certificates.key}",
        f"--token-auth-file={temporary / 'tokens.csv'}", "--authorization-mode=RBAC",
        f"--cert-dir={temporary / 'run'}", "--service-cluster-ip-range=10.0.0.0/24",
        "--service-account-issuer=https://127.0.0.1", f"--service-account-signing-key-file={certificates.key}",
        f"--service-account-key-file={certificates.key}", "--disable-admission-plugins=ServiceAccount",
    ]  # fmt: skip
    url = f"https://127.0.0.1:{port}"
    with contextlib.ExitStack() as stack:
        stack.enter_context(_process(etcd, temporary / "etcd.log"))
        running = stack.enter_context(_process(server, temporary / "apiserver.log"))
        _wait(url, token, certificates.ca, running, temporary / "apiserver.log")
        yield Plane(url, token, certificates.ca, None)


@contextlib.contextmanager
def _process(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(5)


def _wait(url: str, token: str, ca: str, process: subprocess.Popen[bytes], log: Path) -> None:
    context = ssl.create_default_context(cafile=ca)
    request = urllib.request.Request(
        f"{url}/api/v1/namespaces/kube-system", headers={"Authorization": f"Bearer {token}"}
    )
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with (
            contextlib.suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(request, timeout=5, context=context),
        ):
            return
        time.sleep(0.3)
    raise RuntimeError(f"kube-apiserver did not start: {log.read_text(errors='replace')[-2000:]}")
