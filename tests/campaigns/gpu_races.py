"""Races on the fake Vast.ai in simulated time, with kills at random instants and doubtful orders.

    python -m tests.campaigns.gpu_races --races 1000 --seed 1

prints PASS or FAIL and JSON: live rentals at the end must be the winners and the decoys, and nothing else.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import django

django.setup()  # for `python -m`; under pytest it was done

from gpu_fleet import services  # noqa: E402
from gpu_fleet.enums import DONE_LANES, Lane  # noqa: E402
from gpu_fleet.models import Machine, Rental  # noqa: E402
from operations import runner  # noqa: E402
from operations.models import Operation  # noqa: E402

MOST_STEPS = 4000
# Seconds between the reaper's looks and between those at late orders, and how long these are kept up.
TEND, SWEEP, LATE = 5.0, 300.0, 7500.0


class Killed(BaseException):
    """As `kill -9` would: nothing may catch it."""


def run_race(fleet: Any, machine: Machine, chance: random.Random, *, kill_share: float) -> int:
    """Run one machine's operation to its end and let the reaper finish; returns how often the worker was killed.

    A kill may fall before or after any request to the provider, and before or after any checkpoint.
    """
    kills = [0]

    def maybe(*_: object) -> None:
        if chance.random() < kill_share:
            kills[0] += 1
            raise Killed

    def write(self: runner.Lease, **fields: Any) -> None:
        maybe()
        plain(self, **fields)
        maybe()

    plain = runner.Lease._write
    fleet.paced = True
    fleet.transport.before = fleet.transport.after = maybe
    runner.Lease._write = write  # type: ignore[method-assign]
    try:
        _until_ended(fleet, machine)
    finally:
        runner.Lease._write = plain  # type: ignore[method-assign]
        fleet.transport.before = fleet.transport.after = lambda *_: None
    _settle(fleet)
    return kills[0]


def _settle(fleet: Any) -> None:
    """Time for the reaper, and for the look at late orders: as often as the beat asks for them, until none is due."""
    until = fleet.time.seconds + LATE
    sweep_at = 0.0
    while fleet.time.seconds < until:
        if fleet.time.seconds >= sweep_at:
            services.sweep_late()
            sweep_at = fleet.time.seconds + SWEEP
        services.reap()
        rows = Rental.objects.all_orgs()
        if rows.exclude(lane__in=[*DONE_LANES, Lane.WON]).exists():
            fleet.time.go(TEND)
        elif rows.filter(unsure=True, lane=Lane.NEVER).exists():
            fleet.time.go(sweep_at - fleet.time.seconds)
        else:
            break
    services.sweep_late()
    services.reap()
    fleet.time.go(30)
    services.reap()


def _until_ended(fleet: Any, machine: Machine) -> None:
    """From event to event: heartbeats and steps when they are due, the reaper as often as the beat asks for it."""
    reap_at = 0.0
    for _ in range(MOST_STEPS):
        fleet.agents()
        for operation_id in runner.due_ids():
            try:
                runner.run_operation(operation_id)
            except Killed:
                # the lease runs out; a successor goes on
                fleet.time.go(61)
                runner.reap_expired()
        if fleet.time.seconds >= reap_at:
            reap_at = fleet.time.seconds + TEND
            try:
                services.reap()
            except Killed:
                fleet.time.go(1)
        active = Operation.objects.all_orgs().filter(status__in=["queued", "running"])
        due = active.order_by("not_before").values_list("not_before", flat=True).first()
        if due is None:
            return
        fleet.time.go(max(0.5, min(reap_at, due.timestamp()) - fleet.time.seconds))
    raise AssertionError("the race never ended")


def main(arguments: list[str]) -> int:
    """The full campaign, as a pytest run of its own with the numbers in the environment."""
    import os
    import subprocess

    options = dict(zip(arguments[::2], arguments[1::2], strict=False))
    environment = {
        **os.environ,
        "CURFEW_GPU_RACES": options.get("--races", "1000"),
        "CURFEW_GPU_SEED": options.get("--seed", "1"),
    }
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:xdist",
        "--timeout=0",
        "tests/gpu_fleet/test_campaign.py",
    ]
    return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
