"""A Kubernetes client from embedded credentials: no files of ours, no environment, no proxy, no retries, and no name
that is resolved again after its addresses were judged."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import create_connection

from clusters.providers.kubeconfig import KubeAccess


@contextmanager
def client(access: KubeAccess, folder: Path, addresses: Sequence[str] = ()) -> Iterator[Any]:
    """An `ApiClient` that connects to `addresses` alone, in turn, and speaks as the name of the server. Certificates are
    written to `folder`, which the caller owns and removes. Makes no call."""
    from kubernetes.client import ApiClient, Configuration

    configuration = Configuration(host=access.server)
    configuration.retries = False
    configuration.proxy = None
    configuration.verify_ssl = True
    if access.ca:
        configuration.ssl_ca_cert = _write(folder / "ca.pem", access.ca)
    if access.tls_name:
        configuration.tls_server_name = access.tls_name
    if access.token:
        configuration.api_key = {"authorization": access.token}
        configuration.api_key_prefix = {"authorization": "Bearer"}
    if access.client_cert and access.client_key:
        configuration.cert_file = _write(folder / "client.pem", access.client_cert)
        configuration.key_file = _write(folder / "client.key", access.client_key)
    with ApiClient(configuration) as api:
        if addresses:
            api.rest_client.pool_manager.pool_classes_by_scheme = {"https": _pinned(tuple(addresses))}
        yield api


def _pinned(addresses: tuple[str, ...]) -> type[HTTPSConnectionPool]:
    """Connections of urllib3 that go to these addresses whatever the host's name leads to by now."""

    class Connection(HTTPSConnection):
        def _new_conn(self) -> socket.socket:
            failed: OSError | None = None
            for address in addresses:
                options = self.socket_options
                try:
                    return create_connection((address, self.port), self.timeout, self.source_address, options)
                except OSError as error:
                    failed = error
            if isinstance(failed, TimeoutError):
                raise ConnectTimeoutError(self, f"{self.host} did not answer in {self.timeout} s.") from failed
            raise NewConnectionError(self, f"{self.host} cannot be reached: {failed}") from failed

    class Pool(HTTPSConnectionPool):
        ConnectionCls = Connection

    return Pool


def _write(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
    return str(path)
