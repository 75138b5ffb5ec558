"""The tampering campaign in short: each kind some dozens of times, all found against an anchored head."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns import audit_tamper


@pytest.mark.django_db
def test_every_tamper_is_found(django_capture_on_commit_callbacks: Any) -> None:
    with django_capture_on_commit_callbacks(execute=True):
        org = audit_tamper.build()
    result = audit_tamper.campaign(org, 220, seed=7)
    assert result["missed"] == []
    assert result["untouched_ok"]
    assert set(result["by_kind"]) == {tamper.__name__ for tamper in audit_tamper.TAMPERS}
