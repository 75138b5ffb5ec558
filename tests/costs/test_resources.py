"""The resources of a report: one row each under its newest name, the dearest first, made as far as they are looked at."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from costs.reporting import Resources
from costs.totals import Line, Thing, Totals


def line(spent: int, saved: int = 0, *, hours: int = 1) -> Line:
    return Line(Decimal(spent), Decimal(saved), awake=hours * 3_600_000_000, intervals=1)


def test_a_renamed_resource_is_one_row_under_its_newest_name() -> None:
    renamed, other = UUID(int=1), UUID(int=2)
    things = {
        Thing("cloud_node", renamed, "old name"): line(3),
        Thing("cloud_node", other, "other"): line(4),
        Thing("cloud_node", renamed, "new name"): line(2, hours=2),
    }
    found = Resources(Totals(things=things))
    assert [(r.label, r.sums.spent, r.sums.awake_hours, r.sums.intervals) for r in found] == [
        ("new name", 5, 3, 2),
        ("other", 4, 1, 1),
    ]
    assert things[Thing("cloud_node", renamed, "new name")].spent == 2, "the sums themselves were changed"


def test_rows_are_ordered_by_what_was_spent_then_saved_then_name() -> None:
    things = {
        Thing("k", UUID(int=n), label): line(spent, saved)
        for n, (label, spent, saved) in enumerate([("b", 1, 0), ("a", 1, 0), ("c", 1, 9), ("d", 2, 0)])
    }
    found = Resources(Totals(things=things))
    assert len(found) == 4
    assert [r.label for r in found[:3]] == ["d", "c", "a"]
    assert found[3].label == "b"
