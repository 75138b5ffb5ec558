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
    fleet.transport.before = fleet.transport.after = maybe
    runner.Lease._write = write  # type: ignore[method-assign]
    try:
        _until_ended(fleet, machine)
    finally:
        runner.Lease._write = plain  # type: ignore[method-assign]
        fleet.transport.before = fleet.transport.after = lambda *_: None
    for _ in range(400):
        rows = Rental.objects.all_orgs().exclude(lane__in=[*DONE_LANES, Lane.WON])
        if not rows.exists() and not Rental.objects.all_orgs().filter(unsure=True, lane=Lane.NEVER).exists():
            break
        services.reap()
        services.sweep_late()
        fleet.time.go(5)
        if fleet.time.seconds - machine.created_at.timestamp() > 7000:
            break
    services.sweep_late()
    services.reap()
    fleet.time.go(30)
    services.reap()
    return kills[0]


def _until_ended(fleet: Any, machine: Machine) -> None:
    for _ in range(MOST_STEPS):
        fleet.agents()
        for operation_id in runner.due_ids():
            try:
                runner.run_operation(operation_id)
            except Killed:
                # the lease runs out; a successor goes on
                fleet.time.go(61)
                runner.reap_expired()
        try:
            services.reap()
        except Killed:
            fleet.time.go(1)
        if not Operation.objects.all_orgs().filter(status__in=["queued", "running"]).exists():
            return
        fleet.time.go(1)
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
