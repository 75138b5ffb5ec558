"""What a node's own metrics endpoint (NIM, vLLM, Triton, DCGM: Prometheus text) tells of its work. No Django."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from cloudnodes.providers.probe import resolve

MOST_BYTES = 2 * 1024 * 1024
_LINE = re.compile(r"^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{.*\})?\s+(\S+)(?:\s+\d+)?\s*$")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
# Gauges of what is being done now, and of what waits.
_RUNNING = frozenset({"num_requests_running", "num_requests_waiting", "nv_inference_pending_request_count"})
# Counters of finished work. `http_requests_total` counts health checks as well: those are left out by their path.
_DONE = frozenset(
    {"request_success_total", "nv_inference_request_success", "nv_inference_count", "http_requests_total"}
)
_TOKENS = {"prompt_tokens_total": "prompt_tokens", "generation_tokens_total": "generation_tokens"}
_QUIET_PATHS = ("health", "metrics", "live", "ready", "models", "version", "license", "manifest", "docs", "openapi")


@dataclass(frozen=True, slots=True)
class Reading:
    """Requests under way (None: not told), finished ones since the service began, the busiest GPU in per cent, processor
    seconds used, tokens, and when the service began (Unix time). Of a whole machine, as its cloud tells: `host_percent` of
    one processor, `host_network` in bytes a second, and when that was asked (Unix time)."""

    running: float | None = None
    done: float | None = None
    gpu_percent: float | None = None
    cpu_seconds: float | None = None
    tokens: dict[str, float] | None = None
    began: float | None = None
    host_percent: float | None = None
    host_network: float | None = None
    asked: float | None = None

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Reading:
        return cls(**{name: told.get(name) for name in cls.__dataclass_fields__})


def parse(text: str) -> Reading:
    """Read Prometheus' text form; what is not known or not a number is passed over."""
    running = done = gpu = began = None
    tokens: dict[str, float] = {}
    for name, labels, value in _samples(text):
        short = name.rpartition(":")[2]
        if short in _RUNNING:
            running = (running or 0.0) + value
        elif short in _DONE:
            path = (labels.get("handler") or labels.get("path") or labels.get("endpoint") or "").lower()
            if not any(word in path for word in _QUIET_PATHS):
                done = (done or 0.0) + value
        elif short == "nv_gpu_utilization":
            gpu = max(gpu or 0.0, value * 100)
        elif name in ("DCGM_FI_DEV_GPU_UTIL", "gpu_utilization_percent"):
            gpu = max(gpu or 0.0, value)
        elif short == "process_start_time_seconds":
            began = max(began or 0.0, value)
        elif short in _TOKENS:
            tokens[_TOKENS[short]] = tokens.get(_TOKENS[short], 0.0) + value
    return Reading(running, done, gpu, None, tokens or None, began)


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        found = None if line.startswith("#") else _LINE.match(line)
        if found is None:
            continue
        try:
            value = float(found[3])
        except ValueError:
            continue
        if value == value and abs(value) != float("inf"):
            yield found[1], dict(_LABEL.findall(found[2] or "")), value


def read(url: str, *, timeout: float = 3.0) -> Reading | None:
    """Ask the endpoint once; None when it does not answer 200 with text. Judges addresses as `probe` does, follows no
    redirect, sends no credentials, reads at most 2 MB.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        if not parts.hostname or port is None or parts.scheme not in {"http", "https"}:
            return None
        address = resolve(parts.hostname, port)
        if address is None:
            return None
        with socket.create_connection((address, port), timeout=timeout) as connection:
            text = _get(connection, parts.hostname, port, parts.path or "/", tls=parts.scheme == "https")
    except (OSError, ValueError, http.client.HTTPException):
        return None
    return None if text is None else parse(text)


def _get(connection: socket.socket, host: str, port: int, path: str, *, tls: bool) -> str | None:
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection, server_hostname=host)
    client = http.client.HTTPConnection(host, port)
    client.sock = connection
    try:
        client.request(
            "GET", path, headers={"User-Agent": "curfew-metrics", "Accept": "text/plain", "Connection": "close"}
        )
        answer = client.getresponse()
        return answer.read(MOST_BYTES).decode("utf-8", "replace") if answer.status == 200 else None
    finally:
        client.close()
