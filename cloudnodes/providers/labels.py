"""Curfew's tags in the spelling of each cloud, and what follows from them.

AWS and Azure: `curfew:node-type`; Docker and Cloud Run annotations: `curfew.node-type`; Google
labels: `curfew-node-type`. Optional beside it: `gpu-tier`, `endpoint` (a URL, or a host), `port`,
`health-port`, `health-path`, `hourly-cost` (US dollars).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from urllib.parse import urlsplit

NODE_TYPE = "node-type"
MAX_HOURLY_COST = Decimal(10000)


@dataclass(frozen=True, slots=True)
class CurfewLabels:
    """Curfew's own labels of one instance, without prefix."""

    values: Mapping[str, str]

    @property
    def node_type(self) -> str:
        """The node type as written, "" when the instance carries none."""
        return self.values.get(NODE_TYPE, "").strip()

    @property
    def gpu_tier(self) -> str:
        """The GPU tier in lower case, "" when none was given."""
        return self.values.get("gpu-tier", "").strip().lower()

    @property
    def hourly_cost(self) -> Decimal | None:
        """The price on the label in US dollars; None when absent or not a sane figure."""
        try:
            cost = Decimal(self.values.get("hourly-cost", "").strip())
        except InvalidOperation:
            return None
        return cost if cost.is_finite() and Decimal(0) <= cost <= MAX_HOURLY_COST else None

    def endpoint(self, host: str, *, port: int | None = None) -> str:
        """Return where clients go: the endpoint label, else `host` with the port label or `port`."""
        told = self.values.get("endpoint", "").strip()
        if told:
            return told if "://" in told else f"http://{told}"
        if not host:
            return ""
        chosen = _port(self.values.get("port")) or port
        return f"http://{_bracket(host)}:{chosen}" if chosen else host

    def health_endpoint(self, endpoint: str) -> str:
        """Return what `probe` takes: an http(s) URL, tcp://host:port, or "" when no label says where to ask."""
        path, port = self.values.get("health-path", "").strip(), _port(self.values.get("health-port"))
        parts = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        if not endpoint or not parts.hostname:
            return ""
        own_port = _safe_port(parts)
        host = _bracket(parts.hostname)
        if path:
            scheme = parts.scheme if parts.scheme in {"http", "https"} else "http"
            at = port or own_port
            return f"{scheme}://{host}{f':{at}' if at else ''}/{path.lstrip('/')}"
        at = port or own_port
        return f"tcp://{host}:{at}" if at else ""


def curfew_labels(labels: Mapping[str, str] | None, separator: str) -> CurfewLabels:
    """Pick Curfew's labels out of all; `separator` is ":", "." or "-" after the word curfew."""
    prefix = f"curfew{separator}"
    return CurfewLabels(
        {k[len(prefix) :].lower(): v or "" for k, v in (labels or {}).items() if k.lower().startswith(prefix)}
    )


def _port(value: str | None) -> int | None:
    if value and value.strip().isdigit() and 0 < int(value) < 65536:
        return int(value)
    return None


def _safe_port(parts: object) -> int | None:
    try:
        return parts.port  # type: ignore[attr-defined]
    except ValueError:
        return None


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
