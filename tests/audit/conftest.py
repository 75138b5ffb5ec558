"""Each test of the log has anchors of its own."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def anchors_of_this_test(tmp_path: Path, settings: object) -> Path:
    settings.CURFEW_AUDIT_ANCHORS = str(tmp_path / "anchors")
    return tmp_path / "anchors"
