"""Cycles of sleep under faults; the short form. CURFEW_GPU_CYCLES asks for more (see tests/campaigns/gpu_hibernate.py)."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from collections import Counter

import pytest
from django.db import connection

from gpu_fleet.services import snapshots
from tests.campaigns.gpu_hibernate import FAULTS, one_cycle, open_at_once
from tests.gpu_fleet.test_hibernate import Disk
from tests.gpu_fleet.test_hibernate import disk as disk_fixture
from tests.personas import Persona

disk = disk_fixture
pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
]


def test_every_manifest_is_identical_whatever_fails(
    disk: Disk, alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    cycles, seed = (
        int(os.environ.get("CURFEW_GPU_CYCLES", str(len(FAULTS)))),
        int(os.environ.get("CURFEW_GPU_SEED", "11")),
    )
    first = int(os.environ.get("CURFEW_GPU_FIRST", "0"))
    chance = random.Random(seed)
    open_at_once(monkeypatch)
    monkeypatch.setattr(snapshots, "SAMPLED_FILES", int(os.environ.get("CURFEW_GPU_SAMPLE", "4")))
    told: Counter[str] = Counter()
    for n in range(cycles):
        row = one_cycle(disk, alice.actor, FAULTS[(first + n) % len(FAULTS)], chance, monkeypatch)
        assert row["identical"], row
        if row["fault"] in ("lie", "missing"):
            assert not row["asleep"], f"it was destroyed in spite of: {row['fault']}"
        if row["fault"] in ("lock", "none"):
            assert row["asleep"], row
        told.update({"cycles": 1, "asleep": row["asleep"], "identical": row["identical"], "faults": row["faults"]})
        told.update({f"asleep_{row['fault']}": row["asleep"], f"faults_{row['fault']}": row["faults"]})
        connection.run_on_commit.clear()  # one transaction holds all cycles, and nobody listens
        if (n + 1) % 40 == 0:
            sys.stdout.write(json.dumps(told) + "\n")
            sys.stdout.flush()
    sys.stdout.write(json.dumps(told) + "\n")
    assert told["asleep"]
    assert all(told[f"faults_{fault}"] for fault in FAULTS[4:7] if cycles >= len(FAULTS)), told
