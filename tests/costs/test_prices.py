"""Imports of prices: checked as a whole, idempotent, in every organization's log; a small list is always there."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from audit.models import AuditEntry
from core import clock
from core.errors import InvalidInput
from costs import price_list, prices, selectors
from costs.models import CatalogPrice
from tests.personas import Persona

pytestmark = pytest.mark.django_db
HEADER = "provider,region,instance_type,lifecycle,hourly,currency,source,as_of\n"
GOOD = "aws,eu-west-1,g4dn.xlarge,on_demand,0.587,USD,AWS price list,2026-04-04\n"


def run(path: Path, *arguments: str) -> tuple[int, str, str]:
    out = StringIO()
    try:
        call_command("refresh_prices", "--from-csv", str(path), *arguments, stdout=out)
    except CommandError as refused:
        return refused.returncode, out.getvalue(), str(refused)
    return 0, out.getvalue(), ""


def test_an_import_is_idempotent_and_dated(alice: Persona, mallory: Persona, tmp_path: Path) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + GOOD)
    assert json.loads(run(path, "--json")[1]) == {"ok": True, "created": 1, "updated": 0, "unchanged": 0}
    assert json.loads(run(path, "--json")[1]) == {"ok": True, "created": 0, "updated": 0, "unchanged": 1}
    path.write_text(HEADER + GOOD.replace("0.587", "0.5") + GOOD.replace("2026-04-04", "2026-05-04"))
    assert json.loads(run(path, "--json")[1]) == {"ok": True, "created": 1, "updated": 1, "unchanged": 0}
    found = selectors.list_price("aws", "eu-west-1", "g4dn.xlarge", on=datetime(2026, 4, 20, tzinfo=UTC))
    assert found is not None
    assert (found.hourly, found.source) == (Decimal("0.5"), "AWS price list")
    assert selectors.list_price("aws", "eu-west-1", "g4dn.xlarge", on=datetime(2026, 4, 1, tzinfo=UTC)) is None
    for persona in (alice, mallory):  # an import that changed nothing is no line
        assert AuditEntry.objects.for_org(persona.organization).filter(verb="prices.imported").count() == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("acme,eu-west-1,x,on_demand,1,USD,s,2026-04-04", "provider 'acme'"),
        ("aws,,x,on_demand,1,USD,s,2026-04-04", "region is empty"),
        ("aws,r,,on_demand,1,USD,s,2026-04-04", "instance_type is empty"),
        ("aws,r,x,on_demand,1,USD,,2026-04-04", "source is empty"),
        ("aws,r,x,lunar,1,USD,s,2026-04-04", "lifecycle 'lunar'"),
        ("aws,r,x,on_demand,-1,USD,s,2026-04-04", "hourly '-1'"),
        ("aws,r,x,on_demand,NaN,USD,s,2026-04-04", "hourly 'NaN'"),
        ("aws,r,x,on_demand,1e9,USD,s,2026-04-04", "hourly '1e9'"),
        ("aws,r,x,on_demand,0.123456789,USD,s,2026-04-04", "at most 8 decimals"),
        ("aws,r,x,on_demand,free,USD,s,2026-04-04", "hourly 'free'"),
        ("aws,r,x,on_demand,1,EUR,s,2026-04-04", "the ledger is kept in USD"),
        ("aws,r,x,on_demand,1,USD,s,04/04/2026", "as_of '04/04/2026'"),
        ("aws,r,x,on_demand,1,USD,s,2099-01-01", "lies in the future"),
        ("aws,r,x", "currency ''"),
        (f"aws,{'r' * 41},x,on_demand,1,USD,s,2026-04-04", "region is longer"),
        (GOOD.strip().replace("0.587", "0.6"), "twice"),
    ],
)
def test_one_wrong_line_and_nothing_is_imported(alice: Persona, tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(HEADER + GOOD + line + "\n")
    before = CatalogPrice.objects.count()
    code, out, said = run(path, "--json")
    assert code == 1
    assert words in said
    assert "line 3" in said
    assert json.loads(out)["ok"] is False
    assert CatalogPrice.objects.count() == before


@pytest.mark.parametrize("content", [b"", b"a,b\n1,2\n", b"\xff\xfe\x00bad", HEADER.encode() + b'aws,"r,x\n'])
def test_a_file_that_is_no_price_list(alice: Persona, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "prices.csv"
    path.write_bytes(content)
    assert run(path)[0] == 1


def test_a_missing_file_is_exit_code_two(tmp_path: Path) -> None:
    assert run(tmp_path / "none.csv")[0] == 2


def test_messages_are_bounded() -> None:
    with pytest.raises(InvalidInput) as refused:
        prices.read_csv([HEADER, *["acme,r,x,on_demand,1,USD,s,2026-04-04\n"] * 500])
    assert len(refused.value.errors) == 50


def test_the_built_in_list_is_there_with_source_and_date(db: None) -> None:
    with clock.at(datetime(2026, 11, 1, tzinfo=UTC)):
        found = selectors.list_price("aws", "us-east-1", "g4dn.xlarge")
    assert found is not None
    assert found.hourly == Decimal("0.526")
    assert found.source
    assert found.as_of.isoformat() == "2026-07-20"
    rows = list(price_list.built_in())
    assert len({row[:3] for row in rows}) == len(rows)
    assert CatalogPrice.objects.count() == len(rows)


def test_loading_it_again_adds_nothing_and_overwrites_nothing(db: None) -> None:
    mine = CatalogPrice.objects.get(provider="aws", instance_type="g4dn.xlarge")
    CatalogPrice.objects.filter(pk=mine.pk).update(hourly=Decimal("0.4"), source="our contract")
    assert prices.load_built_in() == 0
    mine.refresh_from_db()
    assert (mine.hourly, mine.source) == (Decimal("0.4"), "our contract")
