"""What the operations of GPU machines do. Each may be killed at any instruction and goes on from its checkpoint.

The order of a hibernation is fixed: written, verified here, destroyed, proven gone. Nothing skips a step.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from core import clock
from core.actor import Actor
from gpu_fleet import gateway, idle, racing
from gpu_fleet.enums import (
    DESTROY,
    DOZE,
    HIBERNATE,
    MIGRATE,
    OPERATE,
    PAUSE,
    RESTORE,
    RESUME,
    SNAPSHOT,
    WAKE,
    SnapshotState,
)
from gpu_fleet.models import Machine, Snapshot
from gpu_fleet.providers.base import GpuProvider, RentalState
from gpu_fleet.services import ending, hearing, lanes, snapshots
from gpu_fleet.services.settings import settings_of
from gpu_fleet.services.states import WATCHER, locked
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext

WAIT_SECONDS = 2.0
GONE_SECONDS = 3.0
MOST_TRIES = 3
# A machine that says nothing for so long during a backup or restore has lost it.
SILENCE = timedelta(minutes=5)
# Beyond this a stopped machine's GPU is gone.
TURN_SECONDS = timedelta(seconds=120)


class MachineOrder(BaseExecutor):
    """What they have in common."""

    queue = "cloud"
    permission = OPERATE
    max_attempts = 5
    lease_seconds = 60

    def finished(self, operation: Operation) -> None:
        ending.finish(operation=operation)

    def subject(self, operation: Operation) -> str:
        return str(operation.payload.get("subject", ""))

    def machine_of(self, context: RunContext) -> Machine:
        rows = Machine.objects.all_orgs().select_related("account", "rental")
        machine: Machine | None = rows.filter(id=context.operation.resource_id, gone_at=None).first()
        if machine is None:
            raise OperationFailed("The machine is no more.", code="gone")
        return machine

    def wait_for_job(
        self, context: RunContext, machine: Machine, order: Mapping[str, Any], share: int
    ) -> dict[str, Any]:
        """What the machine reports of an order when it is done; raises RunAgain until then, OperationFailed when it failed."""
        if context.state.get("order") != dict(order):
            self.wait_while_clearing(context, machine)
            context.checkpoint(order=dict(order), order_at=clock.now().isoformat())
        job = hearing.job_of(machine, str(order["id"]))
        if job is None or job.get("state") == "running":
            self._patience(context, machine, job)
            step = str((job or {}).get("step") or "Waiting for the machine's next heartbeat")
            done = int(float((job or {}).get("percent") or 0))
            if (job or {}).get("usable") and not context.state.get("usable_at"):
                context.checkpoint(usable_at=clock.now().isoformat())
            context.progress(percent=share + done * (80 - share) // 100, step=step)
            raise RunAgain(WAIT_SECONDS)
        if job.get("state") != "done" or not isinstance(job.get("result"), dict):
            raise OperationFailed(str(job.get("error") or "The machine could not do it.")[:500], code="machine_failed")
        return dict(job["result"])

    @staticmethod
    def wait_while_clearing(context: RunContext, machine: Machine) -> None:
        """Old snapshots are removed from its repository by this server: neither backup nor restore begins meanwhile."""
        if snapshots.is_clearing(machine):
            context.progress(step="Waiting until old snapshots are removed")
            raise RunAgain(WAIT_SECONDS)

    @staticmethod
    def _patience(context: RunContext, machine: Machine, job: Mapping[str, Any] | None) -> None:
        asked = datetime.fromisoformat(context.state["order_at"])
        last = max(asked, machine.heard_at or asked)
        if clock.now() - last > SILENCE:
            raise OperationFailed(
                f"The machine has not been heard for {SILENCE.total_seconds() / 60:.0f} minutes.",
                code="silent",
                next_step="It was left as it is. Look whether it is reachable, then try again.",
            )

    def write_snapshot(self, context: RunContext, machine: Machine) -> Snapshot:
        """A verified snapshot of the machine's present files."""
        snapshot = snapshots.begin_snapshot(
            machine=machine, operation=context.operation, reason=str(context.operation.payload.get("cause", "hand"))
        )
        if snapshot.state == SnapshotState.VERIFIED:
            return snapshot
        if snapshot.state == SnapshotState.FAILED:
            raise OperationFailed(snapshot.error or "The snapshot failed.", code="not_verified")
        if snapshot.state == SnapshotState.WRITING:
            self._prepare(context, machine)
            snapshot = snapshots.note_written(snapshot=snapshot, result=self._backup(context, machine, snapshot))
        context.progress(percent=82, step="Reading the snapshot back")
        try:
            checks = snapshots.verify_snapshot(snapshot=snapshot, machine=machine)
        except OperationFailed as bad:
            snapshots.mark_failed(snapshot=snapshot, words=bad.message)
            raise
        snapshots.mark_verified(snapshot=snapshot, machine=machine, checks=checks)
        context.checkpoint(order=None)
        return snapshot

    def _prepare(self, context: RunContext, machine: Machine) -> None:
        if context.state.get("repository"):
            return
        rules = settings_of(machine.organization_id)
        gateway.repository_for_machine(machine, rules)
        gateway.repository_of(machine, rules).ensure()
        context.checkpoint(repository=True)

    def _backup(self, context: RunContext, machine: Machine, snapshot: Snapshot) -> dict[str, Any]:
        tried = int(context.state.get("tries", 1))
        order = {
            "id": f"{snapshot.id}-try{tried}",
            "kind": "backup",
            "paths": snapshot.paths,
            "tags": ["curfew", snapshot.id.hex[:12]],
        }
        try:
            return self.wait_for_job(context, machine, order, 5)
        except OperationFailed as bad:
            if bad.code != "machine_failed" or tried >= MOST_TRIES:
                snapshots.mark_failed(snapshot=snapshot, words=bad.message)
                raise
            if "lock" in bad.message:  # of a process of this server that was killed
                gateway.repository_of(machine, settings_of(machine.organization_id)).unlock()
            context.checkpoint(tries=tried + 1)
            context.progress(step=f"{bad.message[:120]}. Trying again.")
            raise RunAgain(WAIT_SECONDS * tried) from None

    def restore(self, context: RunContext, machine: Machine, snapshot: Snapshot) -> None:
        """The snapshot's files are back on the machine, compared with the hashes that were made before the backup."""
        tried = int(context.state.get("restore_tries", 1))
        order = {
            "id": f"restore-{context.operation.id.hex[:12]}-{machine.generation}-try{tried}",
            "kind": "restore",
            "snapshot": snapshot.restic_id,
            "manifest": str(snapshot.id),
        }
        try:
            result = self.wait_for_job(context, machine, order, 45)
            if result.get("digest") != snapshot.digest or result.get("missing"):
                raise OperationFailed("The restored files are not those that were saved.", code="machine_failed")
        except OperationFailed as bad:
            if bad.code != "machine_failed" or tried >= MOST_TRIES:
                raise OperationFailed(
                    f"The files could not be brought back: {bad.message}",
                    code="restore_failed",
                    next_step="The snapshot is untouched and nothing is backed up from this machine. Restore it again.",
                ) from None
            context.checkpoint(restore_tries=tried + 1)
            raise RunAgain(WAIT_SECONDS) from None
        snapshots.note_restored(machine=machine, snapshot=snapshot)
        context.checkpoint(order=None, restored=str(snapshot.id))

    def destroy(self, context: RunContext, machine: Machine, provider: GpuProvider) -> None:
        """Order destruction, then look until the provider shows that it is gone. Absence alone is proof."""
        rental = machine.rental
        if rental is None:
            return
        if not context.state.get("destroying"):
            context.checkpoint(destroying=True)
        context.progress(percent=90, step="Destroying the machine")
        refused = provider.destroy([rental.provider_id])[rental.provider_id]
        if refused is not None and not refused.transient:
            raise refused
        seen = provider.describe([rental.provider_id])[rental.provider_id]
        if seen.state is not RentalState.GONE:
            context.progress(percent=94, step="Waiting until the provider shows that it is gone")
            raise RunAgain(GONE_SECONDS)
        ending.fell_asleep(machine=machine, operation=context.operation)


class MachineWake(MachineOrder):
    """Race, then bring the newest verified snapshot back."""

    kind = WAKE
    label = "Wake a GPU machine"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental_id is None:
            racing.step(context, machine, gateway.open_provider(machine.account))
            machine = self.machine_of(context)
        rental = machine.rental
        if machine.is_spare:
            from gpu_fleet import switching  # it is built on this module

            switching.spare_ready(machine=machine)
            return {"host": rental.host_id if rental else ""}
        snapshot = snapshots.latest_verified(machine)
        if snapshot is not None and not machine.restored:
            self.restore(context, machine, snapshot)
        return {"host": rental.host_id if rental else "", "restored": str(snapshot.id) if snapshot else None}


class MachineHibernate(MachineOrder):
    """Snapshot, verify, destroy, prove gone; given up while nothing is destroyed if the machine comes back to life."""

    kind = HIBERNATE
    puts_to_sleep = True
    label = "Hibernate a GPU machine"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental_id is None:
            return {"already": True}
        if machine.provider_state == "stopped" and machine.dozed_id and not context.state.get("snapshot"):
            context.checkpoint(snapshot=str(machine.dozed_id), dozed=True)
        if not context.state.get("destroying") and not context.state.get("dozed"):
            context.check_cancel()
            self._still_idle(context, machine)
            snapshot = self.write_snapshot(context, machine)
            self._still_idle(context, machine)
            context.check_cancel()
            context.checkpoint(snapshot=str(snapshot.id))
        self._ground(context, machine)
        self.destroy(context, machine, gateway.open_provider(machine.account))
        return {"snapshot": context.state["snapshot"]}

    @staticmethod
    def _still_idle(context: RunContext, machine: Machine) -> None:
        """One that is put to sleep for being idle must still be so. Its own backup counts as no work."""
        if context.operation.payload.get("cause") != "idle":
            return
        if machine.keep_awake_until and machine.keep_awake_until > clock.now():
            raise OperationFailed("Somebody asked to keep it awake.", code="kept", next_step="")
        evidence = ending.newest_evidence(machine)
        if evidence is not None and (evidence.ssh or evidence.kernels or _gpu_busy(evidence)):
            raise OperationFailed("It came back to life before it was asleep.", code="came_to_life")

    @staticmethod
    def _ground(context: RunContext, machine: Machine) -> None:
        """The last gate before destruction, read from the database anew."""
        good = Snapshot.objects.for_org(machine.organization_id).filter(
            id=str(context.state.get("snapshot") or context.operation.id),
            machine=machine,
            generation=machine.generation,
            state=SnapshotState.VERIFIED,
        )
        if context.state.get("dozed"):  # stopped since that snapshot: nothing can have changed
            stopped = machine.provider_state == "stopped" and str(machine.dozed_id) == context.state["snapshot"]
            good = good if stopped else good.none()
        else:
            good = good.filter(operation_id=context.operation.id)
        if not good.exists():
            raise OperationFailed("There is no verified snapshot of it, so it is not destroyed.", code="not_verified")


def _gpu_busy(evidence: idle.Sample) -> bool:
    return any(load is None or load > idle.Rule().gpu for load in evidence.gpus or ())


class MachineSnapshot(MachineOrder):
    """A verified snapshot; the machine stays awake."""

    kind = SNAPSHOT
    label = "Take a snapshot"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        context.check_cancel()
        snapshot = self.write_snapshot(context, self.machine_of(context))
        return {"snapshot": str(snapshot.id), "files": snapshot.files, "size": snapshot.size}


class MachineRestore(MachineOrder):
    """A chosen snapshot back into the awake machine."""

    kind = RESTORE
    label = "Restore a snapshot"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        rows = Snapshot.objects.for_org(machine.organization_id).filter(
            id=context.operation.payload.get("snapshot"), state=SnapshotState.VERIFIED
        )
        snapshot = rows.select_related("machine").first()
        if snapshot is None:
            raise OperationFailed("The snapshot is no more.", code="gone")
        if snapshot.machine_id != machine.id:
            self.wait_while_clearing(context, machine)
            context.progress(percent=5, step=f"Copying the snapshot of {snapshot.machine.name}")
            snapshot = snapshots.adopt(snapshot=snapshot, machine=machine, operation=context.operation)
        if context.state.get("restored") != str(snapshot.id):
            with transaction.atomic():
                Machine.objects.for_org(machine.organization_id).filter(id=machine.id).update(restored=False)
            self.restore(context, machine, snapshot)
        return {"snapshot": str(snapshot.id)}


class MachineMigrate(MachineHibernate):
    """Down here, up elsewhere: the host that it leaves takes no part in the race."""

    kind = MIGRATE
    label = "Move a GPU machine to another host"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental is not None and machine.generation == context.operation.payload.get("from"):
            left = machine.rental.host_id
            if context.state.get("left") != left:
                context.checkpoint(left=left)
            super().run(context)
            machine = self.machine_of(context)
        if machine.rental_id is None:
            racing.step(context, machine, gateway.open_provider(machine.account))
            machine = self.machine_of(context)
        snapshot = snapshots.latest_verified(machine)
        if snapshot is not None and not machine.restored:
            self.restore(context, machine, snapshot)
        rental = machine.rental
        return {"from": context.state.get("left"), "host": rental.host_id if rental else ""}


class MachinePause(MachineOrder):
    """Stop it where it is; `resume` turns it the other way."""

    kind = PAUSE
    label = "Pause a GPU machine"
    target = RentalState.STOPPED

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental is None:
            raise OperationFailed("Nothing is rented for this machine.", code="gone")
        provider, number = gateway.open_provider(machine.account), machine.rental.provider_id
        seen = provider.describe([number])[number]
        if seen.state is not self.target:
            self._order(context, provider, number)
            context.progress(percent=50, step="Waiting for the provider")
            raise RunAgain(WAIT_SECONDS)
        ending.turned(machine=machine, operation=context.operation, asleep=self.target is RentalState.STOPPED)
        return {}

    def _order(self, context: RunContext, provider: GpuProvider, number: str) -> None:
        if context.state.get("ordered"):
            self._too_late(context)
            return
        context.checkpoint(ordered=clock.now().isoformat())
        if self.target is RentalState.STOPPED:
            provider.stop(number)
        else:
            provider.start(number)

    @staticmethod
    def _too_late(context: RunContext) -> None:
        if clock.now() - datetime.fromisoformat(context.state["ordered"]) > TURN_SECONDS:
            raise OperationFailed(
                "The provider did not do it in time; after a pause this means that the GPU was given to somebody else.",
                code="no_capacity",
                next_step="Try again later, or destroy it and wake it from its last verified snapshot.",
            )


class MachineDoze(MachineHibernate):
    """The first of two timers: snapshot, proof, and a stop that keeps the disk, so that it is back at once."""

    kind = DOZE
    label = "Save and stop a GPU machine"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental is None:
            raise OperationFailed("Nothing is rented for this machine.", code="gone")
        if not context.state.get("snapshot"):
            context.check_cancel()
            self._still_idle(context, machine)
            snapshot = self.write_snapshot(context, machine)
            self._still_idle(context, machine)
            context.checkpoint(snapshot=str(snapshot.id))
        provider, number = gateway.open_provider(machine.account), machine.rental.provider_id
        if provider.describe([number])[number].state is not RentalState.STOPPED:
            if not context.state.get("ordered"):
                context.checkpoint(ordered=clock.now().isoformat())
                provider.stop(number)
            elif clock.now() - datetime.fromisoformat(context.state["ordered"]) > TURN_SECONDS:
                raise OperationFailed("The provider did not stop it in time.", code="not_stopped")
            context.progress(percent=90, step="Waiting for the provider")
            raise RunAgain(WAIT_SECONDS)
        rows = Snapshot.objects.for_org(machine.organization_id)
        kept = rows.filter(id=context.state["snapshot"], state=SnapshotState.VERIFIED, machine=machine).first()
        ending.turned(machine=machine, operation=context.operation, asleep=True, dozed=kept)
        return {"snapshot": context.state["snapshot"]}


class MachineResume(MachinePause):
    """Let a paused machine go on."""

    kind = RESUME
    label = "Resume a GPU machine"
    target = RentalState.RUNNING


class MachineDestroy(MachineOrder):
    """End a machine for good: whatever is rented for it is destroyed and proven gone."""

    kind = DESTROY
    label = "Destroy a GPU machine"
    permission = "gpu.manage"

    def run(self, context: RunContext) -> Mapping[str, Any]:
        machine = self.machine_of(context)
        if machine.rental_id is not None:
            self.destroy(context, machine, gateway.open_provider(machine.account))
        with transaction.atomic():
            row = locked(machine.id)
            if row is not None:
                ending.end_for_good(
                    machine=row, operation=context.operation, actor=Actor.system(WATCHER, row.organization_id)
                )
        lanes.revoke_tokens(machine=machine)
        return {}
