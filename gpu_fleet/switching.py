"""Operations of a machine and its standby: failover, failback, a GPU again, and giving the standby up.

A change of sides has one order: renew no more, wait until the lease is over, copy the rest, give the lease to the
other side under the next epoch, see it serve. Killed anywhere, a successor goes on from the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction

from core import clock
from gpu_fleet import gateway, racing
from gpu_fleet.enums import FAILBACK, FAILOVER, RECOVER, RELEASE, Side
from gpu_fleet.executors import MachineOrder
from gpu_fleet.models import Machine, Standby
from gpu_fleet.providers.base import RentalState
from gpu_fleet.services import copying, leases, switches
from operations.models import Operation
from operations.registry import OperationFailed, RunAgain, RunContext

LOOK_SECONDS = 0.5
# A side that asked for its lease within so long is there.
FRESH = timedelta(seconds=6)
REST_SECONDS = timedelta(seconds=120)
PULL_SECONDS = timedelta(minutes=30)
SERVE_SECONDS = timedelta(seconds=30)
MOST_PULLS = 4


class SwitchOrder(MachineOrder):
    """What changes of sides have in common; `target` is who serves afterwards."""

    target = Side.CPU
    max_attempts = 8
    lease_seconds = 6  # nobody serves meanwhile: a killed worker's successor must not wait a minute

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        row = standby_of(machine)
        rental_id = self._destination(machine, row)
        if not (row.holder == self.target and row.holder_rental == rental_id and not row.releasing):
            self._give_back(context, machine, row)
            self._rest(context, row)
            self._caught_up(context, row, rental_id)
            context.progress(percent=80, step="Handing the lease over")
            if not leases.grant(standby_id=row.id, side=self.target, rental_id=rental_id, proven_gone=_proven(context)):
                raise RunAgain(LOOK_SECONDS)
            context.checkpoint(granted=clock.now().isoformat())
        self._serves(context, row)
        return {"epoch": row.epoch, "through": row.pushed_through.isoformat() if row.pushed_through else None}

    def _destination(self, machine: Machine, row: Standby) -> UUID:
        one = row.spare if self.target == Side.CPU else machine
        if one is None or one.rental_id is None:
            raise OperationFailed("The side that is to serve has no machine.", code="no_destination")
        return UUID(str(one.rental_id))

    def _source_there(self, row: Standby) -> bool:
        seen = row.gpu_seen_at if self.target == Side.CPU else row.cpu_seen_at
        return seen is not None and clock.now() - seen < FRESH

    def _give_back(self, context: RunContext, machine: Machine, row: Standby) -> None:
        """No more renewals; then wait until the holder gave the lease back, it is over, or its machine is gone."""
        if not context.state.get("released"):
            context.check_cancel()
            switches.begin(standby=row)
            context.checkpoint(released=clock.now().isoformat())
            row.refresh_from_db()
        if leases.over(row) or _proven(context):
            return
        context.progress(percent=10, step="Waiting until the side that served has stopped")
        if not self._source_there(row) and not context.state.get("asked"):
            context.checkpoint(asked=True)
            if _gone(machine if self.target == Side.CPU else row.spare, row):
                context.checkpoint(gone=str(row.holder_rental))
                return
        raise RunAgain(LOOK_SECONDS)

    def _rest(self, context: RunContext, row: Standby) -> None:
        """What was changed since the last copy, if the side that served is still there to tell."""
        if context.state.get("rest") == "done":
            return
        began = context.state.get("rest_at")
        if began is None:
            if not self._source_there(row):
                context.checkpoint(rest="done", rest_lost=True)
                return
            copying.ask_final(standby=row)
            context.checkpoint(rest_at=clock.now().isoformat())
            raise RunAgain(LOOK_SECONDS)
        since = clock.now() - datetime.fromisoformat(began)
        if row.pushed_through is not None and row.pushed_through >= datetime.fromisoformat(context.state["released"]):
            context.checkpoint(rest="done")
            return
        if not self._source_there(row) or since > REST_SECONDS:
            context.checkpoint(rest="done", rest_lost=True)
            return
        context.progress(percent=30, step="Copying the last changes")
        raise RunAgain(LOOK_SECONDS)

    def _caught_up(self, context: RunContext, row: Standby, rental_id: UUID) -> None:
        if copying.caught_up(row, rental_id):
            return
        began = context.state.get("pull_at")
        if began is None:
            context.checkpoint(pull_at=clock.now().isoformat(), pull_try=row.pull_try)
            raise RunAgain(LOOK_SECONDS)
        late = clock.now() - datetime.fromisoformat(began) > PULL_SECONDS
        if late or row.pull_try - int(context.state.get("pull_try", 0)) >= MOST_PULLS:
            if row.pulled_rental == rental_id and row.pulled_snapshot and not self._source_there(row):
                context.checkpoint(older=row.pulled_through.isoformat() if row.pulled_through else "")
                return  # an earlier whole copy is better than nothing
            raise OperationFailed(
                f"The newest copy could not be brought over: {row.pull_error or 'it took too long'}.",
                code="not_copied",
                next_step="The side that served goes on serving. Look at the error and try again.",
            )
        context.progress(percent=50, step="Bringing the newest copy over")
        raise RunAgain(LOOK_SECONDS)

    def _serves(self, context: RunContext, row: Standby) -> None:
        row.refresh_from_db()
        granted = datetime.fromisoformat(context.state.get("granted") or clock.now().isoformat())
        if row.serving or clock.now() - granted > SERVE_SECONDS:
            return
        context.progress(percent=90, step="Waiting until it serves")
        raise RunAgain(LOOK_SECONDS)

    def finished(self, operation: Operation) -> None:
        super().finished(operation)
        switches.end(operation=operation, target=self.target)


class MachineFailover(SwitchOrder):
    kind = FAILOVER
    label = "Fail over to the standby"


class MachineFailback(SwitchOrder):
    kind = FAILBACK
    label = "Fail back to the GPU machine"
    target = Side.GPU


class MachineRecover(MachineOrder):
    """A GPU again while the standby serves: the old machine if it came back in time, else a new race; then the copy."""

    kind = RECOVER
    label = "Get a GPU again"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        row = standby_of(machine)
        if machine.rental is not None and not context.state.get("raced"):
            self._old(context, machine, row)
            machine = self.machine_of(context)
        if machine.rental_id is None:
            context.checkpoint(raced=True)
            racing.step(context, machine, gateway.open_provider(machine.account))
            machine = self.machine_of(context)
        row.refresh_from_db()
        if not copying.caught_up(row, machine.rental_id):
            self._pull_patience(context, row)
            context.progress(percent=80, step="Bringing the files of the standby back")
            raise RunAgain(2.0)
        switches.recovered(machine=machine, operation=context.operation)
        rental = machine.rental
        return {"host": rental.host_id if rental else "", "same": not context.state.get("raced")}

    def _old(self, context: RunContext, machine: Machine, row: Standby) -> None:
        """Go on with it if it is there again; destroy it, with proof, when its time to come back is over."""
        now = clock.now()
        if row.gpu_seen_at is not None and now - row.gpu_seen_at < FRESH and not context.state.get("destroying"):
            return
        assert machine.rental is not None
        provider = gateway.open_provider(machine.account)
        seen = provider.describe([machine.rental.provider_id])[machine.rental.provider_id]
        ended = seen.state in (RentalState.GONE, RentalState.DEAD)
        since = row.switched_at or row.created_at
        if not ended and not context.state.get("destroying") and now - since < timedelta(seconds=row.grace_seconds):
            context.progress(percent=5, step="Waiting whether the lost machine comes back")
            raise RunAgain(2.0)
        context.checkpoint(left=machine.rental.host_id)
        self.destroy(context, machine, provider)

    @staticmethod
    def _pull_patience(context: RunContext, row: Standby) -> None:
        began = context.state.get("pull_at")
        if began is None:
            context.checkpoint(pull_at=clock.now().isoformat(), pull_try=row.pull_try)
            return
        late = clock.now() - datetime.fromisoformat(began) > PULL_SECONDS
        if late or row.pull_try - int(context.state.get("pull_try", 0)) >= MOST_PULLS:
            raise OperationFailed(
                f"The standby's files could not be brought back: {row.pull_error or 'it took too long'}.",
                code="not_copied",
                next_step="The standby goes on serving.",
            )


class StandbyRelease(MachineOrder):
    """Destroy what is rented for a standby and prove it gone; the row stays for the next time."""

    kind = RELEASE
    label = "Give a standby up"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if not machine.is_spare:
            raise OperationFailed("This is no standby.", code="not_a_standby")
        if machine.rental_id is not None:
            self.destroy(context, machine, gateway.open_provider(machine.account))
        return {}


def standby_of(machine: Machine) -> Standby:
    """The machine's standby with its spare. Raises OperationFailed when it was taken away."""
    rows = Standby.objects.for_org(machine.organization_id).select_related("spare", "spare__rental", "spare__account")
    found: Standby | None = rows.filter(machine=machine, enabled=True).first()
    if found is None:
        raise OperationFailed("The machine has no standby any more.", code="gone")
    return found


def _proven(context: RunContext) -> UUID | None:
    told = context.state.get("gone")
    return UUID(str(told)) if told else None


def _gone(machine: Machine | None, row: Standby) -> bool:
    """Whether a read of the provider shows that the holder's rental is no more."""
    rental = machine.rental if machine is not None else None
    if machine is None or rental is None or rental.id != row.holder_rental:
        return False
    seen = gateway.open_provider(machine.account).describe([rental.provider_id])[rental.provider_id]
    return seen.state is RentalState.GONE


def spare_ready(*, machine: Machine) -> None:
    """A standby's machine is up: its machine's repository exists from now on, and the first copy may begin."""
    from gpu_fleet.services.settings import settings_of

    owner = gateway.owner_of(machine)
    gateway.repository_of(owner, settings_of(machine.organization_id)).ensure()
    with transaction.atomic():
        switches.spare_is_up(spare=machine)
