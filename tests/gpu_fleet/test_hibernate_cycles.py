"""Cycles of sleep under faults; the short form. CURFEW_GPU_CYCLES asks for more (see tests/campaigns/gpu_hibernate.py)."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys

import pytest

from tests.campaigns.gpu_hibernate import FAULTS, one_cycle
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
    cycles, chance = int(os.environ.get("CURFEW_GPU_CYCLES", "3")), random.Random(11)
    rows = []
    for n in range(cycles):
        row = one_cycle(disk, alice.actor, FAULTS[n % len(FAULTS)], chance, monkeypatch)
        rows.append(row)
        sys.stdout.write(json.dumps(row) + "\n")
        assert row["identical"], row
        if row["fault"] == "lie":
            assert not row["asleep"], "it was destroyed on the word of a machine that lied"
    assert any(row["asleep"] for row in rows)
