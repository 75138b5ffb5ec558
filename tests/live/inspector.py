"""The database of a running Curfew, read from outside by a process that has its settings.

Curfew's own models read the rows, so this follows the schema. The process writes nothing. `python -m tests.live.inspector`
answers lines of JSON on its standard input; `Inspector` is the side that asks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.live.processes import Child


class Inspector:
    """Asks the process below. Times are seconds since the epoch, money is text."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        command = [sys.executable, "-m", "tests.live.inspector"]
        self.child = Child(
            "inspector", command, env=environment, log=log, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def close(self) -> None:
        self.child.kill9()

    def ask(self, question: str, **options: Any) -> Any:
        """The answer to one of QUESTIONS; raises AssertionError with the other side's words when it fails."""
        pipe_in, pipe_out = self.child.process.stdin, self.child.process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        pipe_in.write(json.dumps({"question": question, "options": options}).encode() + b"\n")
        pipe_in.flush()
        line = pipe_out.readline()
        assert line, f"the inspector ended: {self.child.tail()}"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def operations(self) -> list[dict[str, Any]]:
        return list(self.ask("operations"))

    def intervals(self, kind: str = "cloud_node") -> list[dict[str, Any]]:
        return list(self.ask("intervals", kind=kind))

    def nodes(self) -> list[dict[str, Any]]:
        return list(self.ask("nodes"))

    def audit(self) -> dict[str, Any]:
        """`{entries, checked, problems}`; entries that were found whole before are not read again."""
        return dict(self.ask("audit"))

    def verdict(self) -> list[str]:
        """What Curfew's own check of every audit chain finds, from the first line on."""
        return list(self.ask("verdict"))

    def dump(self) -> str:
        """Every column of every row of every table, as text: to look for secrets in."""
        return str(self.ask("dump"))


@dataclass
class _Chain:
    """How far an organization's audit chain was verified."""

    seq: int = 0
    hash: str = ""


@dataclass
class _Answers:
    chains: dict[str, _Chain] = field(default_factory=dict)

    def operations(self) -> list[dict[str, Any]]:
        from operations.models import Operation

        return list(Operation.objects.all_orgs().order_by("created_at").values())

    def intervals(self, kind: str) -> list[dict[str, Any]]:
        from costs.models import Interval

        return list(Interval.objects.all_orgs().filter(resource_kind=kind).order_by("started_at").values())

    def nodes(self) -> list[dict[str, Any]]:
        from cloudnodes.models import CloudNode

        return list(CloudNode.objects.all_orgs().values())

    def cluster(self, cluster_id: str) -> dict[str, Any]:
        from clusters.models import Alert, Cluster, Sample
        from core import clock

        row = Cluster.objects.all_orgs().get(id=cluster_id)
        alerts = Alert.objects.all_orgs().filter(cluster=row, ended_at=None, kind__in=["lost", "unreadable"])
        newest = Sample.objects.all_orgs().filter(cluster=row).order_by("-at").values_list("at", flat=True).first()
        names = ("state", "cause", "digest", "session", "sequence", "last_sample", "node_count", "pod_count")
        return {
            **{name: getattr(row, name) for name in names},
            "alerts": list(alerts.values_list("title", flat=True)),
            "newest_sample_age": None if newest is None else (clock.now() - newest).total_seconds(),
        }

    def audit(self) -> dict[str, Any]:
        from audit import chain, services
        from audit.models import AuditHead, AuditSeal

        problems, total, checked = [], 0, 0
        for head in list(AuditHead.objects.all()):
            known = self.chains.setdefault(str(head.organization_id), _Chain(0, chain.GENESIS))
            new = AuditSeal.objects.all_orgs().filter(organization_id=head.organization_id, line__gt=known.seq)
            for seal in new.order_by("line").select_related("entry"):
                checked += 1
                if seal.line != known.seq + 1:
                    problems.append(f"{head.organization_id}: line {seal.line} follows {known.seq}")
                content = chain.digest(services.as_mapping(seal.entry))
                if seal.prev_hash != known.hash or seal.hash != chain.link(
                    str(head.organization_id), seal.line, known.hash, content
                ):
                    problems.append(f"{head.organization_id}: the hash of line {seal.line} is wrong")
                known.seq, known.hash = seal.line, seal.hash
            if known.seq < head.seq or (known.seq == head.seq and known.hash != head.hash):
                problems.append(f"{head.organization_id}: the head says {head.seq}, the entries end at {known.seq}")
            total += known.seq
        return {"entries": total, "checked": checked, "problems": problems}

    def verdict(self) -> list[str]:
        from audit import verification

        verdicts = [verification.verify_chain(organization_id=i) for i in verification.organizations_with_chains()]
        return [f"{v.organization_id}, line {v.seq}: {v.reason}" for v in verdicts if not v.ok]

    def dump(self) -> str:
        from django.db import connection

        text = []
        with connection.cursor() as cursor:
            for table in connection.introspection.table_names(cursor):
                cursor.execute(f'SELECT * FROM "{table}"')
                text.extend(f"{table}: {row}" for row in cursor.fetchall())
        return "\n".join(text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.timestamp()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no place in an answer")


def main() -> None:
    """Answer until the other side closes our input."""
    import django

    django.setup()
    from django.db import connection

    answers = _Answers()
    for line in sys.stdin:
        asked = json.loads(line)
        question: Callable[..., Any] = getattr(answers, asked["question"])
        try:
            reply = {"answer": question(**asked["options"])}
        except Exception as failure:  # the asking side raises it
            reply = {"error": f"{type(failure).__name__}: {failure}"}
        finally:
            connection.close()
        sys.stdout.write(json.dumps(reply, default=_plain) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
