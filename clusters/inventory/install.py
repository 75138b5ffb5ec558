"""What a cluster needs to run the agent: the manifest filled in, and the Helm chart packed for serving.

Pure: reads the templates under deploy/ and nothing else. The token is a secret; the caller decides who may see it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

DEPLOY = Path(__file__).resolve().parent.parent.parent / "deploy"
CHART = DEPLOY / "chart" / "curfew-agent"


@dataclass(frozen=True, slots=True)
class Chart:
    """A packed chart. The same sources always give the same bytes."""

    name: str
    version: str
    app_version: str
    description: str
    data: bytes

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}.tgz"

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def manifest(
    *,
    url: str,
    token: str,
    cluster_name: str,
    image: str,
    orders_key: str = "",
    orders: bool | None = None,
    webhook: bool = False,
) -> str:
    """Return what `kubectl apply -f -` installs. With an orders' public key (base64) the agent may carry out signed
    orders, and gets the rights for them; without, it can read only. `webhook` adds the placement webhook, which needs
    the key as well; `orders=False` leaves it the only one to use it."""
    orders = bool(orders_key) if orders is None else orders and bool(orders_key)
    webhook = webhook and bool(orders_key)
    values = {
        "url": url,
        "token": token,
        "cluster_name": cluster_name,
        "image": image,
        "allow_orders": "1" if orders else "0",
        "orders_key": orders_key,
        "placement_config": "curfew-agent-placement" if webhook else "",
    }
    quoted = {name: json.dumps(value) for name, value in values.items()}  # a JSON text is a YAML text
    parts = [
        "cluster.yaml.tmpl",
        *(["cluster-orders.yaml.tmpl"] if orders else []),
        *(["cluster-webhook.yaml.tmpl"] if webhook else []),
    ]
    filled = [Template(_without_comments(DEPLOY / "agent" / part)).substitute(quoted) for part in parts]
    return "---\n".join(filled)


def _without_comments(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


@cache
def chart() -> Chart:
    """Return the packed chart."""
    facts: dict[str, str] = {}
    for line in (CHART / "Chart.yaml").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        facts[name] = value.strip().strip('"')
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as file, tarfile.open(fileobj=file, mode="w") as archive:
        for path in sorted(p for p in CHART.rglob("*") if p.is_file()):
            data = path.read_bytes()
            entry = tarfile.TarInfo(f"{facts['name']}/{path.relative_to(CHART).as_posix()}")
            entry.size, entry.mode, entry.mtime = len(data), 0o644, 0
            archive.addfile(entry, io.BytesIO(data))
    return Chart(facts["name"], facts["version"], facts["appVersion"], facts["description"], packed.getvalue())


def chart_index(base_url: str, *, created: str) -> str:
    """Return the index.yaml of a chart repository at `base_url` (as JSON, which is YAML); `created` is ISO 8601."""
    found = chart()
    entry = {
        "apiVersion": "v2",
        "name": found.name,
        "version": found.version,
        "appVersion": found.app_version,
        "description": found.description,
        "type": "application",
        "created": created,
        "digest": found.digest,
        "urls": [f"{base_url.rstrip('/')}/{found.file_name}"],
    }
    return json.dumps({"apiVersion": "v1", "entries": {found.name: [entry]}, "generated": created}, indent=2) + "\n"
