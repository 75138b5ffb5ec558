"""A Kubernetes client from embedded credentials: no files of ours, no environment, no proxy, no retries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clusters.providers.kubeconfig import KubeAccess


@contextmanager
def client(access: KubeAccess, folder: Path) -> Iterator[Any]:
    """An `ApiClient`; certificates are written to `folder`, which the caller owns and removes. Makes no call."""
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
        yield api


def _write(path: Path, text: str) -> str:
    path.touch(mode=0o600)
    path.write_text(text, encoding="ascii")
    return str(path)
