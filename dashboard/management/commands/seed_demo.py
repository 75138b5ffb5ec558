"""`manage.py seed_demo`: people, clouds and history for trying Curfew. Adds only what is missing.

Exit code 0; 1 when the demo's organization cannot be made (sign-ups are closed, or its people were moved elsewhere).
"""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.enums import Role
from accounts.models import CloudAccount
from cloudnodes import services as nodes_services
from cloudnodes.models import CloudNode
from core import clock
from core.errors import CurfewError
from dashboard.demo import clouds, history, people
from dashboard.demo import clusters as demo_clusters
from dashboard.demo import gpu as demo_gpu
from dashboard.demo import gpu_history as demo_gpu_history
from dashboard.demo import policies as demo_policies
from dashboard.demo import schedules as demo_schedules
from dashboard.demo import tasks as demo_tasks
from dashboard.demo.people import Cast

AWAKE_AT_FIRST = (("flux-dev", "t4"), ("sdxl-turbo", "a10g"))
FIRST_LOOK = "first look at the demo"


class Command(BaseCommand):
    help = (
        "Make the demo: an organization with people of each role, the sandbox cloud, thirty days of simulated history."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object on one line")

    def handle(self, *args: Any, **options: Any) -> None:
        began = time.monotonic()
        data = Path(settings.CURFEW_DATA)
        end = clock.now()
        try:
            with clock.at(end - timedelta(days=history.DAYS, minutes=10)):
                cast = people.ensure(data)
        except (CurfewError, RuntimeError) as refused:
            raise CommandError(str(refused), returncode=1) from refused
        made = self._cloud(cast, end)
        docker = clouds.connect_docker(cast.organization, settings.CURFEW_DOCKER_HOST)
        demo_tasks.play(cast.actors[str(Role.OWNER)], cast.actors[str(Role.OPERATOR)], end)
        machine = demo_gpu.deploy(cast.actors[str(Role.OWNER)]) if docker else None
        if docker:
            demo_tasks.invite_worker(cast.actors[str(Role.OWNER)], data)
        facts = {
            "ok": True,
            "organization": cast.organization.name,
            "url": settings.CURFEW_BASE_URL,
            "password": cast.password,
            "people": [{"email": one.email, "role": str(one.role)} for one in people.PEOPLE],
            "sandbox": clouds.sandbox_account(cast.organization) is not None,
            "docker": docker,
            "nodes": CloudNode.objects.for_org(cast.organization).filter(gone_at=None).count(),
            "operations": made,
            "gpu_machine": machine.name if machine else None,
            "seconds": round(time.monotonic() - began, 1),
        }
        if options["json"]:
            self.stdout.write(json.dumps(facts))
        else:
            self._tell(facts, cast)

    def _cloud(self, cast: Cast, end: Any) -> int:
        """Connect the sandbox and play the history on its nodes; after a restart of the sandbox, wake what was awake."""
        if not settings.CURFEW_SANDBOX_AWS_ENDPOINT:
            return 0
        owner = cast.actors[str(Role.OWNER)]
        known = clouds.sandbox_account(cast.organization)
        if known and history.happened(cast.organization.id):
            clouds.wake_after_restart(known)
            return 0
        with clock.at(end - timedelta(days=history.DAYS, minutes=5)):
            account = known or clouds.connect_sandbox(owner, cast.organization)
            if account is None:
                return 0
            clouds.scan_now(cast.organization)
        made = self._history(cast, account, end)
        owner_and_others = [cast.actors[str(role)] for role in (Role.OWNER, Role.ADMIN, Role.OPERATOR)]
        made += demo_gpu_history.play(account=account, owner=owner, people=owner_and_others, end=end)
        demo_clusters.connect(owner, account, end)
        demo_policies.make(owner)
        demo_schedules.make(owner, cast.organization.timezone)
        return made

    def _history(self, cast: Cast, account: CloudAccount, end: Any) -> int:
        nodes = list(
            CloudNode.objects.for_org(cast.organization).filter(account=account, gone_at=None).order_by("instance_name")
        )
        workers = [
            cast.actors[str(role)] for role in (Role.OWNER, Role.ADMIN, Role.OPERATOR) if str(role) in cast.actors
        ]
        if not nodes or not workers:
            return 0
        instances = clouds.instances_of(account)
        made = history.play(nodes=nodes, instances=instances, people=workers, owner=workers[0], end=end)
        for slug, tier in AWAKE_AT_FIRST:
            node = next((n for n in nodes if n.instance_name.startswith(f"{slug}-{tier}")), None)
            if node:
                nodes_services.request_start(actor=workers[-1], node_id=node.id, reason=FIRST_LOOK)
        return made

    def _tell(self, facts: dict[str, Any], cast: Cast) -> None:
        self.stdout.write(
            f"Organization {facts['organization']}, all of it simulated (Sandbox). Log in with the password {facts['password']} as"
        )
        for one in people.PEOPLE:
            self.stdout.write(f"  {one.email:<28} {one.role}, {one.name}")
