"""Closing an organization: pause its schedules, wake what sleeps or hand it over as it is, let go of its clouds, end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from accounts import selectors as accounts
from accounts import services as people
from accounts.actors import own_organization
from accounts.models import CloudAccount
from core import hooks, sleepable
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidInput
from core.sleepable import SleepableView, SleepState
from operations import services
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext

KIND = "organization.close"
RESOURCE = "organization"
LOOK_AGAIN_SECONDS = 5.0
MOST_HOURS = 6


@dataclass(slots=True)
class Blast:
    """What closing touches; `wake_cost` is USD an hour of everything that would be woken, None when a price is unknown."""

    asleep: list[SleepableView] = field(default_factory=list)
    awake: int = 0
    wake_cost: Decimal | None = Decimal(0)
    people: int = 0
    accounts: int = 0
    keys: int = 0
    agents: int = 0


def blast_radius(*, actor: Actor) -> Blast:
    """What is there now."""
    actor.require("organization.delete", "close the organization")
    found = Blast(people=len(accounts.list_members(actor=actor)))
    for view in _sleepables(actor):
        if view.state in (SleepState.ASLEEP, SleepState.FALLING):
            found.asleep.append(view)
            known = found.wake_cost is not None and view.hourly_cost is not None
            found.wake_cost = (found.wake_cost or Decimal(0)) + (view.hourly_cost or Decimal(0)) if known else None
        elif view.state == SleepState.AWAKE:
            found.awake += 1
    found.accounts = sum(1 for a in accounts.list_accounts(actor=actor) if a.number)
    found.keys = sum(1 for k in accounts.list_api_keys(actor=actor) if k.revoked_at is None)
    found.agents = sum(1 for a in accounts.list_agents(actor=actor) if not a.is_over)
    return found


def request_close(*, actor: Actor, typed_name: str, wake: bool) -> Operation:
    """Order the end of the actor's organization. Raises InvalidInput unless its name was typed, Conflict when it ends already."""
    actor.require("organization.delete", "close the organization")
    house = accounts.get_organization(actor=actor)
    if typed_name.strip() != house.name:
        raise InvalidInput(errors={"confirm_name": [f"Type {house.name} exactly as it is written."]})
    return services.request_operation(
        actor=actor,
        kind=KIND,
        resource_kind=RESOURCE,
        resource_id=own_organization(actor),
        resource_label=house.name,
        payload={"wake": wake},
        reason="wakes what sleeps first" if wake else "leaves what sleeps asleep",
        deadline_seconds=MOST_HOURS * 3600,
    )


class OrganizationClose(BaseExecutor):
    """Every step looks first and does only what is left to do; the end itself is one transaction."""

    kind = KIND
    label = "Close organization"
    permission = "organization.delete"
    max_attempts = 5

    def run(self, context: RunContext) -> Mapping[str, Any]:
        operation = context.operation
        actor = Actor.system("organization_close", operation.organization_id, operation.request_id)
        context.progress(5, "Pausing schedules", done=0, total=3)
        hooks.organization_closing.emit(actor=actor, organization_id=operation.organization_id)
        context.check_cancel()
        if operation.payload.get("wake"):
            self._wake(context, actor)
        context.check_cancel()
        context.progress(70, "Letting go of cloud accounts", done=1, total=3)
        for account in CloudAccount.objects.for_org(operation.organization_id).order_by("id"):
            try:
                people.disconnect_account(actor=actor, account_id=account.id)
            except Conflict as busy:
                raise OperationFailed(busy.message, code="busy", transient=True) from None
        context.progress(90, "Ending the organization", done=2, total=3)
        return {"woken": len(context.state.get("asked", []))}

    def finished(self, operation: Operation) -> None:
        if operation.status == Status.SUCCEEDED:
            actor = Actor.system("organization_close", operation.organization_id, operation.request_id)
            people.close_organization(actor=actor, organization_id=operation.organization_id)

    def _wake(self, context: RunContext, actor: Actor) -> None:
        """Order each wake once, then wait without holding a thread. A cloud that will not wake something stops the close."""
        asked: list[str] = list(context.state.get("asked", []))
        left = [
            v for v in _sleepables(actor) if v.state not in (SleepState.AWAKE, SleepState.UNMANAGED, SleepState.LOST)
        ]
        refused: list[str] = []
        for view in left:
            key = str(view.id)
            if view.state in (SleepState.WAKING, SleepState.FALLING) or (key in asked and view.operation_id):
                continue
            if key in asked:
                refused.append(f"{view.name}: it did not wake")
                continue
            try:
                sleepable.kind_named(view.kind).request_wake(actor, view.id, reason="The organization is being closed")
            except Conflict:
                continue  # something else is under way with it: look again
            except CurfewError as no:
                refused.append(f"{view.name}: {no.message}")
                continue
            asked.append(key)
            context.checkpoint(asked=asked)
        if refused:
            raise OperationFailed(
                "Not everything could be woken. " + "; ".join(refused)[:800],
                code="not_woken",
                next_step="Wake these by hand, or close again and leave what sleeps asleep. Schedules are paused meanwhile.",
            )
        if left:
            context.progress(10 + min(50, 50 * len(asked) // (len(asked) + len(left))), f"Waking {len(left)} first")
            raise RunAgain(LOOK_AGAIN_SECONDS)


def _sleepables(actor: Actor) -> list[SleepableView]:
    return [view for kind in sleepable.kinds() for view in kind.list(actor)]
