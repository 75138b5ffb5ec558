"""The export of a million lines beside PostgreSQL's own COPY of the same texts; then the stand-alone verifier over it.

    python -m tests.stack -- python -m bench.audit_export --lines 1000000

COPY sends line, both hashes and canonical text in order to a reader that throws them away. The export is drained to a
file as the server would send it, hash and sidecar included. Memory is that of this process.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.support import report, setup_django


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.audit_export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=1_000_000)
    options = parser.parse_args()
    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.db import connection

    from bench.audit_fill import fill
    from core import live

    live._send = lambda group, message: None  # type: ignore[assignment]
    owner = fill(options.lines)
    copy_seconds(connection)  # once for the caches
    copied = copy_seconds(connection)
    with tempfile.TemporaryDirectory(prefix="curfew-bench-") as folder:
        figures = {kind: export(owner, kind, Path(folder)) for kind in ("jsonl", "csv")}
        verified = subprocess.run(
            [sys.executable, "-I", "audit/verifier/audit_verify.py", f"{folder}/audit.jsonl"],
            capture_output=True,
            text=True,
            check=False,
        )
    report(
        "audit_export",
        database=connection.vendor,
        lines=options.lines,
        copy_s=round(copied, 2),
        ratio=round(figures["jsonl"]["seconds"] / copied, 2),
        ratio_csv=round(figures["csv"]["seconds"] / copied, 2),
        **figures,
        verifier=verified.stdout.splitlines()[:1],
    )


def copy_seconds(connection: Any) -> float:
    began = time.perf_counter()
    with (
        connection.cursor() as cursor,
        cursor.cursor.copy(
            "COPY (SELECT s.line, s.prev_hash, s.hash, e.canonical FROM audit_auditseal s JOIN audit_auditentry e ON e.id = s.entry_id ORDER BY s.line) TO STDOUT"
        ) as copy,
    ):
        for _ in copy:
            pass
    return time.perf_counter() - began


def export(owner: Any, kind: str, folder: Path) -> dict[str, float]:
    from audit import services

    before, cpu, began = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        time.process_time(),
        time.perf_counter(),
    )
    download = services.start_export(actor=owner.actor, file_format=kind, period="all")
    size = 0
    with (folder / f"audit.{kind}").open("wb") as file:
        for piece in download.chunks:
            size += file.write(piece)
    seconds = time.perf_counter() - began
    download.export.refresh_from_db()
    (folder / f"audit.{kind}.sidecar.json").write_text(json.dumps(download.export.sidecar), encoding="utf-8")
    return {
        "seconds": round(seconds, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "mb": round(size / 1e6),
        "peak_grew_mb": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024),
    }


if __name__ == "__main__":
    main()
