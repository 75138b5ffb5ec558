"""Every column that holds sealed text is known to the key rotation, and a rotation survives `kill -9`."""

from __future__ import annotations

import ast
import base64
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import models

from accounts import vault
from accounts.models import CloudAccount
from core import encryption, sealed
from tests import prepared
from tests.access.matrix import World
from tests.personas import make_account

ROOT = Path(__file__).resolve().parents[2]
OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()
NAMES = re.compile(r"seal|secret|credential|password|private")
# Fields whose name sounds like a sealed text and that hold none, each with its reason.
OTHERS = {
    "User.password": "a hash",
    "JobPool.pull_secret": "the name of an object in the cluster",
    "Task.secret_names": "names of variables",
}


def places() -> set[str]:
    """`Model.field` of every registered place."""
    return {f"{place.model.split('.')[1]}.{place.field}" for place in sealed.places()}


def test_every_field_that_sounds_like_a_secret_is_registered() -> None:
    ours = {path.parent.name for path in ROOT.glob("*/apps.py")}
    found = {
        f"{model.__name__}.{field.name}"
        for model in apps.get_models()
        if model._meta.app_label in ours
        for field in model._meta.get_fields()
        if isinstance(field, (models.TextField, models.CharField, models.JSONField)) and NAMES.search(field.name)
    }
    assert found - places() - set(OTHERS) == set()
    for place in sealed.places():
        assert apps.get_model(place.model)._meta.get_field(place.field)


def _written_to(tree: ast.AST) -> Iterator[str]:
    """Names that sealed text is given to: of attributes, keyword arguments and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and _seals(node.value):
            yield from (t.attr if isinstance(t, ast.Attribute) else ast.unparse(t) for t in node.targets)
        if isinstance(node, ast.keyword) and _seals(node.value):
            yield str(node.arg)


def _seals(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) in ("encryption.seal", "seal")


def test_whatever_is_sealed_is_kept_in_a_registered_field() -> None:
    known = {place.field for place in sealed.places()}
    wrong = {}
    for path in sorted(ROOT.glob("*/**/*.py")):
        app = path.relative_to(ROOT).parts[0]
        if (ROOT / app / "apps.py").exists() and "seal(" in (text := path.read_text()):
            wrong |= {f"{path.name}: {name}": app for name in _written_to(ast.parse(text)) if name not in known}
    assert wrong == {}


@pytest.fixture
def sealed_world(world: World) -> World:
    """The world, with a cloud account that has credentials."""
    organization = world.alice.organization
    account = make_account(organization, number="999900001111")
    CloudAccount.objects.for_org(organization).filter(id=account.id).update(credentials="x")
    return world


@pytest.mark.django_db
def test_every_registered_place_moves_to_the_new_key(sealed_world: World, settings: Any) -> None:
    settings.CURFEW_ENCRYPTION_KEYS = OLD
    rows = {}
    for place in sealed.places():
        manager = apps.get_model(place.model)._base_manager
        for other in manager.all():  # what the world planted may be no sealed text at all
            if place.read(other):
                place.write(other, encryption.seal({"kept": place.kind}, bound_to=place.bound_to(other)))
        row = manager.order_by("pk").first()
        if row is None:
            continue
        place.write(row, encryption.seal({"kept": place.kind}, bound_to=place.bound_to(row)))
        rows[place.kind] = (place, row)
    assert {"gpu_race", "gpu_machine", "cluster", "task", "channel", "audit_sink", "cloud_account"} <= set(rows)
    settings.CURFEW_ENCRYPTION_KEYS = f"{NEW},{OLD}"
    first = vault.reseal_all()
    assert {r.kind for r in first if r.failed} == set()
    assert set(rows) <= {r.kind for r in first if r.done}
    assert sum(r.done for r in vault.reseal_all()) == 0
    settings.CURFEW_ENCRYPTION_KEYS = NEW
    for place, row in rows.values():
        row.refresh_from_db()
        assert encryption.unseal(place.read(row), bound_to=place.bound_to(row)) == {"kept": place.kind}


ROWS = 400
_PLANT = """
import django; django.setup()
from accounts.models import CloudAccount
from core import clock, encryption
from operations.models import Operation
from tests.personas import make_organization
house = make_organization("Larkspur")
for number in range({rows}):
    row = CloudAccount(organization=house, name=str(number), number=str(number))
    row.credentials = encryption.seal({{"n": number}}, bound_to=row.seal_name)
    row.save()
for number in range(20):
    row = Operation(organization=house, kind="machine.wake", resource_kind="machine", resource_id=house.id, resource_label="x",
        status="succeeded", not_before=clock.now(), created_at=clock.now(), actor_kind="system", actor_id="x", actor_label="x")
    row.state = {{"round": 1, "token": encryption.seal({{"token": str(number)}}, bound_to=f"operation:{{row.id}}")}}
    row.save()
"""
_OPEN = """
import django; django.setup()
from accounts.models import CloudAccount
from core import encryption
from operations.models import Operation
numbers = sorted(encryption.unseal(row.credentials, bound_to=row.seal_name)["n"] for row in CloudAccount.objects.all_orgs())
tokens = [encryption.unseal(row.state["token"], bound_to=f"operation:{row.id}")["token"] for row in Operation.objects.all_orgs() if row.state["round"] == 1]
print(len(numbers), numbers[-1], len(set(tokens)))
"""


def _python(data: Path, keys: str, *arguments: str) -> subprocess.Popen[str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("DATABASE_URL", "REDIS_URL")}
    environment = {
        **kept,
        "CURFEW_DATA": str(data),
        "CURFEW_ENCRYPTION_KEYS": keys,
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    return subprocess.Popen([sys.executable, *arguments], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)


def _moved(database: Path) -> int:
    with sqlite3.connect(database, timeout=20) as connection:
        query = "SELECT count(*) FROM accounts_cloudaccount WHERE credentials LIKE 'v1.k2.%'"
        return int(connection.execute(query).fetchone()[0])


@pytest.mark.integration
def test_a_rotation_that_is_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    shutil.copytree(prepared.prepared(), tmp_path, dirs_exist_ok=True)
    assert _python(tmp_path, OLD, "-c", _PLANT.format(rows=ROWS)).wait(120) == 0
    database, both = tmp_path / prepared.DATABASE, f"{NEW},{OLD}"
    rotation = _python(tmp_path, both, "manage.py", "rotate_encryption_keys")
    while (moved := _moved(database)) < 20:
        assert rotation.poll() is None, "it ended before it could be killed"
        time.sleep(0.005)
    rotation.send_signal(signal.SIGKILL)
    rotation.communicate()
    moved = _moved(database)
    assert 20 <= moved < ROWS
    words = f"{ROWS} {ROWS - 1} 20"
    assert _python(tmp_path, both, "-c", _OPEN).communicate(timeout=120)[0].strip() == words  # in the middle
    again, _ = _python(tmp_path, both, "manage.py", "rotate_encryption_keys").communicate(timeout=120)
    assert f"cloud_account: {ROWS - moved} sealed anew with k2, {moved} fresh already, 0 not opened" in again
    assert "gpu_race: 20 sealed anew" in again
    assert _python(tmp_path, NEW, "-c", _OPEN).communicate(timeout=120)[0].strip() == words  # without the old key
