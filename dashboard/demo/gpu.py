"""A GPU machine of the demo: asked for through the ordinary services, raced for and put to sleep by the worker, for real.

It is a container of this machine's own Docker engine, so it needs one, and the programs that a local machine is made of.
"""

from __future__ import annotations

import logging
from decimal import Decimal

from accounts.models import CloudAccount
from core.actor import Actor
from core.errors import CurfewError
from gpu_fleet import services
from gpu_fleet.models import Machine
from gpu_fleet.providers import docker_image

log = logging.getLogger(__name__)
NAME = "ember"
# What the demo's people say that an hour of their own computer costs them.
HOURLY = Decimal("0.38")
REASON = "first look at the demo"


def deploy(owner: Actor) -> Machine | None:
    """The demo's machine, unless it had one; None, with the reason logged, when none can be made here."""
    if owner.org_id is None or Machine.objects.for_org(owner.org_id).filter(account__provider="docker").exists():
        return None
    account = CloudAccount.objects.for_org(owner.org_id).filter(provider="docker").exclude(method="").first()
    missing = docker_image.missing_programs()
    if account is None or missing:
        log.info("demo_machine_not_deployed", extra={"reason": f"needs {', '.join(missing) or 'a Docker engine'}"})
        return None
    try:
        services.change_settings(actor=owner, local_hourly=HOURLY)
        machine, _ = services.create_machine(actor=owner, name=NAME, account_id=account.id, wanted={"strategy": "race"})
    except CurfewError as refused:
        log.info("demo_machine_not_deployed", extra={"reason": refused.message})
        return None
    return machine
