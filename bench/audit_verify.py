"""The stand-alone verifier over a generated export of a million lines, in a process of its own.

    python -m bench.audit_verify --lines 1000000

The lines are made by the same definitions as in the platform, with signed sidecar; entries are about 600 bytes long.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

from audit import chain
from audit.verifier import audit_verify
from bench.support import report


def generate(path: Path, lines: int) -> None:
    """A whole export with its sidecar."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    organization = str(UUID(int=7))
    previous, whole, size = chain.GENESIS, hashlib.sha256(), 0
    with path.open("wb") as file:
        for number in range(1, lines + 1):
            entry = {
                "id": str(UUID(int=number)),
                "organization": organization,
                "seq": 1_800_000_000_000_000 + number,
                "at": "2026-03-18T12:00:00.000Z",
                "actor_kind": "user",
                "actor_id": str(UUID(int=3)),
                "actor_label": "Mina Okafor",
                "verb": "node.wake_requested",
                "target_kind": "cloud_node",
                "target_id": str(UUID(int=number % 500)),
                "target_label": f"node {number % 500}",
                "outcome": "success",
                "changes": {"desired_state": ["asleep", "awake"], "size": [number, number + 1]},
                "detail": "",
                "ip": "203.0.113.24",
                "user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:171.0) Gecko/20100101 Firefox/171.0",
                "request_id": f"{number:032x}",
                "operation_id": None,
            }
            content = chain.canonical(entry)
            own = chain.link(organization, number, previous, hashlib.sha256(content).hexdigest())
            raw = b'{"line":%d,"prev_hash":"%s","hash":"%s","entry":%s}\n' % (
                number,
                previous.encode(),
                own.encode(),
                content,
            )
            file.write(raw)
            whole.update(raw)
            size += len(raw)
            previous = own
    at = "2026-03-18T12:00:00.000Z"
    checkpoint = {"organization": organization, "line": lines, "hash": previous, "at": at, "key_id": "a1"}
    checkpoint["signature"] = key.sign(audit_verify.statement("checkpoint", organization, lines, previous, at)).hex()
    sidecar = {
        "version": 1,
        "file": path.name,
        "format": "jsonl",
        "organization": organization,
        "created_at": at,
        "first_line": 1,
        "last_line": lines,
        "lines": lines,
        "prev_hash": chain.GENESIS,
        "last_hash": previous,
        "sha256": whole.hexdigest(),
        "size": size,
        "checkpoint": checkpoint,
        "key_id": "a1",
        "public_key": key.public_key().public_bytes_raw().hex(),
    }
    sidecar["signature"] = key.sign(audit_verify.sidecar_message(sidecar)).hex()
    Path(f"{path}.sidecar.json").write_text(json.dumps(sidecar), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit_verify", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="curfew-bench-") as folder:
        path = Path(folder) / "audit.jsonl"
        generate(path, options.lines)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-I", audit_verify.__file__, str(path)], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - began
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        megabytes = round(path.stat().st_size / 1e6)
    report(
        "audit_verify",
        lines=options.lines,
        mb=megabytes,
        seconds=round(seconds, 1),
        cpu_seconds=round(used.ru_utime + used.ru_stime, 1),
        peak_mb=round(used.ru_maxrss / 1024),
        exit_code=done.returncode,
        said=done.stdout.splitlines()[:1],
    )


if __name__ == "__main__":
    main()
