"""Celery's side of reading accounts: ids in, one service call."""

from __future__ import annotations

from celery import current_app, shared_task
from django.conf import settings

from cloudnodes import attribution, automatic, services
from core.actor import Actor


@shared_task(name="cloudnodes.poll")
def poll() -> int:
    """Every two seconds: claim the accounts that are due and hand each to a worker, so that none waits for another."""
    due = services.due_accounts()
    for account_id in due:
        queue = None if settings.CURFEW_EMBEDDED else "cloud"
        current_app.send_task("cloudnodes.poll_account", kwargs={"account_id": str(account_id)}, queue=queue)
    return len(due)


@shared_task(name="cloudnodes.poll_account")
def poll_account(account_id: str) -> int:
    """Read one account's nodes."""
    return services.poll_account(account_id=account_id)


@shared_task(name="cloudnodes.reprice")
def reprice() -> int:
    """Every hour: nodes whose list price changed get the new one from now on."""
    return services.reprice_all(actor=Actor.system("price_book"))


@shared_task(name="cloudnodes.watch")
def watch() -> int:
    """Every fifteen seconds: look at what awake nodes do; warn and put to sleep what has been idle long enough."""
    return automatic.watch()


@shared_task(name="cloudnodes.attribute")
def attribute() -> int:
    """Every minute: ask the clouds' own logs who made the changes that Curfew noticed and did not make."""
    return attribution.attribute_due()
