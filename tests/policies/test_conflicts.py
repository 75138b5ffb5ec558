"""Conflicts and prices of node templates, from the specifications of instance types alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.blueprint import Blueprint
from policies.catalogue import catalogue
from policies.conflicts import Quote, Weight, allowed_types, judge
from policies.enums import Architecture, DiskType, Purchasing

pytestmark = pytest.mark.unit
BOOK = catalogue()
FAMILIES = BOOK.families()


def texts(blueprint: Blueprint) -> list[str]:
    return [one.text for one in judge(blueprint, BOOK, {}).conflicts]


def test_gpus_of_intel_machines_and_arm_do_not_go_together() -> None:
    found = judge(
        Blueprint("x", architectures=frozenset({Architecture.ARM64}), families=frozenset({"g4dn", "m7g"})), BOOK, {}
    )
    assert [one.text for one in found.conflicts] == [
        "Instance type g4dn is incompatible with ARM64: it is made for x86 only."
    ]
    assert not found.blocked
    assert {one.family for one in found.types} == {"m7g"}


@pytest.mark.parametrize(
    ("blueprint", "words"),
    [
        (Blueprint("x", families=frozenset({"m7g"}), architectures=frozenset({Architecture.AMD64})), "m7g is incompatible with x86"),
        (Blueprint("x", families=frozenset({"c7g"}), disk_type=DiskType.EPHEMERAL), "c7g has no disk of its own"),
        (Blueprint("x", families=frozenset({"u-6tb1"})), "not sold as spot"),
        (Blueprint("x", families=frozenset({"p4d"}), excluded_sizes=frozenset({"24xlarge"})), "Every size of p4d"),
        (Blueprint("x", families=frozenset({"zz9"})), "zz9 is not in the catalogue"),
        (Blueprint("x", excluded_sizes=frozenset({"gigantic"})), "No instance type has the size gigantic"),
        (Blueprint("x", families=frozenset({"m5"}), limit_cpu=1), "Every type has more than 1 vCPU"),
        (Blueprint("x", families=frozenset({"t3"})), "less than 400 MiB"),
        (Blueprint("x", disk_type=DiskType.IO1, disk_gib=3), "io1 disks are 4 to 16384"),
        (Blueprint("x", disk_gib=10), "hold the image and hardly any"),
        (Blueprint("x", purchasing=Purchasing.HYBRID), "every node is spot"),
        (Blueprint("x", purchasing=Purchasing.HYBRID, on_demand_percent=100), "leaves no spot nodes"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(blueprint: Blueprint, words: str) -> None:
    assert any(words in text for text in texts(blueprint)), texts(blueprint)


@settings(max_examples=15, deadline=None)
@given(
    st.sets(st.sampled_from(sorted(FAMILIES)), min_size=1, max_size=12),
    st.sets(st.sampled_from(Architecture)),
    st.sampled_from(Purchasing),
    st.sampled_from(DiskType),
)
def test_every_family_of_which_nothing_is_left_is_named_and_no_other(
    families: set[str], architectures: set[Architecture], purchasing: Purchasing, disk: DiskType
) -> None:
    blueprint = Blueprint(
        "x",
        architectures=frozenset(architectures),
        families=frozenset(families),
        purchasing=purchasing,
        disk_type=disk,
        on_demand_base=1,
    )
    found = judge(blueprint, BOOK, {})
    left = {one.family for one in found.types}
    named = {one.subject for one in found.conflicts if one.weight is Weight.CONFLICT}
    assert named == families - left
    assert found.blocked == (not left)


def test_the_average_is_of_what_has_a_price_and_is_never_guessed() -> None:
    blueprint = Blueprint(
        "x", families=frozenset({"m5"}), excluded_sizes=frozenset({"metal"}), purchasing=Purchasing.SPOT
    )
    day = date(2026, 1, 2)
    book = {
        "m5.large": Quote(Decimal("0.10"), Decimal("0.03"), "a", day),
        "m5.xlarge": Quote(Decimal("0.20"), Decimal("0.05"), "b", date(2026, 1, 1)),
        "m5.2xlarge": Quote(Decimal("0.40"), None, "c", day),
    }

    def average(**fields: object) -> tuple[Decimal | None, int, int, str]:
        one = judge(replace(blueprint, **fields), BOOK, book).average  # type: ignore[arg-type]
        return one.hourly, one.priced, one.types, one.cheapest

    types = len(allowed_types(blueprint, BOOK))
    assert average() == (Decimal("0.04"), 2, types, "m5.large")
    assert average(purchasing=Purchasing.ON_DEMAND)[:2] == (Decimal("0.7") / 3, 3)
    half = average(purchasing=Purchasing.HYBRID, on_demand_percent=50)
    assert half[:2] == (Decimal("0.095"), 2)
    whole = judge(blueprint, BOOK, book).average
    assert (whole.as_of, whole.source) == (date(2026, 1, 1), "a; b")
    nothing = judge(blueprint, BOOK, {}).average
    assert (nothing.hourly, nothing.priced, nothing.types) == (None, 0, types)


def test_the_catalogue_agrees_with_what_everybody_knows() -> None:
    large = BOOK.types["m5.large"]
    assert (large.vcpu, large.memory_mib, large.architecture, large.pods) == (2, 8192, Architecture.AMD64, 29)
    assert (BOOK.types["g5g.xlarge"].architecture, BOOK.types["g5g.xlarge"].gpus) == (Architecture.ARM64, 1)
    assert BOOK.types["i3.large"].local_disk_gb == 475
    price = BOOK.price("m5.large")
    assert price is not None
    assert price.on_demand == Decimal("0.096")
    assert BOOK.price("m5.large", "mars-north-1") is None
