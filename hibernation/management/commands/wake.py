"""Wake one sleepable, in this process; also from a snapshot's id or a restore file."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError

from clusters.models import Cluster
from clusters.sleeping import files
from clusters.sleeping import services as clusters
from core import sleepable
from core.actor import Actor
from core.errors import CurfewError
from hibernation import ordering
from operations.enums import Status


class Command(BaseCommand):
    help = "Wake a cloud node, a cluster or anything else that sleeps, and wait until it is awake."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("kind", nargs="?", help="cluster, cloud_node, ...")
        parser.add_argument("name", nargs="?", help="its id or name")
        parser.add_argument(
            "--from-snapshot", metavar="FILE|ID", help="restore a cluster from a file or a snapshot's id"
        )
        parser.add_argument("--cluster", help="the cluster's id or name, when the file does not lead to it")
        parser.add_argument("--reason", default="manage.py wake")
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")
        parser.add_argument("--no-wait", action="store_true", help="only order it; a worker does it")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            operation_id = self._from_snapshot(options) if options["from_snapshot"] else self._order(options)
        except CurfewError as refused:
            raise CommandError(refused.message) from None
        if operation_id is None or options["no_wait"]:
            return
        quiet = options["json"]
        ended = ordering.see_through(operation_id, (lambda words: None) if quiet else self.stdout.write)
        if quiet:
            self.stdout.write(json.dumps({"operation": str(ended.id), "status": ended.status, "error": ended.error}))
        if ended.status != Status.SUCCEEDED:
            raise CommandError(ordering.outcome(ended))
        if not quiet:
            self.stdout.write(ordering.outcome(ended))

    @staticmethod
    def _order(options: dict[str, Any]) -> UUID | None:
        if not options["kind"] or not options["name"]:
            raise CommandError("Say what to wake: `wake cluster NAME`, or `wake --from-snapshot FILE`.")
        view = ordering.find(options["kind"], options["name"])
        actor = Actor.system("command_line", view.organization_id)
        kind = sleepable.kind_named(view.kind)
        return kind.request_wake(actor, view.id, reason=options["reason"], options={"cause": "hand"})

    @staticmethod
    def _from_snapshot(options: dict[str, Any]) -> UUID:
        place = Path(options["from_snapshot"])
        if place.is_file():
            content = files.read_file(place.read_bytes())
            wanted = options["cluster"] or str(content["cluster"]["name"])
            found = ordering.find("cluster", wanted)
            cluster = Cluster.objects.for_org(found.organization_id).get(id=found.id)
        else:
            try:
                mark = UUID(options["from_snapshot"])
            except ValueError:
                raise CommandError(f"{place} is neither a file nor the id of a snapshot.") from None
            snapshot = files.find_snapshot(actor=Actor.system("command_line"), snapshot_id=mark)
            content = files.restore_file(snapshot)
            if options["cluster"]:
                found = ordering.find("cluster", options["cluster"])
                cluster = Cluster.objects.for_org(found.organization_id).get(id=found.id)
            elif snapshot.cluster is not None:
                cluster = snapshot.cluster
            else:
                raise CommandError("Its cluster was disconnected: connect it again, and name it with --cluster.")
        actor = Actor.system("command_line", cluster.organization_id)
        files.adopt(actor=actor, cluster=cluster, content=content)
        return clusters.request_wake(actor=actor, cluster_id=cluster.id, reason=options["reason"]).id
