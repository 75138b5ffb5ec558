"""install.py as one file: the same every time, for old Pythons, from the standard library alone."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from cloudnodes.packages import bundle
from cloudnodes.packages.installer.problems import MEANINGS
from tests.packages.conftest import pythons

pytestmark = pytest.mark.unit
# Functions that Python 3.8 does not have.
TOO_NEW = (
    "removeprefix",
    "removesuffix",
    "is_relative_to",
    "file_digest",
    "strict=",
    "slots=True",
    "kw_only",
    "zoneinfo",
    "tomllib",
    "batched",
)


def test_it_is_python_3_8() -> None:
    text = bundle.assemble().decode()
    ast.parse(text, feature_version=(3, 8))
    assert [word for word in TOO_NEW if word in text] == []


def test_it_imports_the_standard_library_only() -> None:
    names = set()
    for found in ast.walk(ast.parse(bundle.assemble())):
        if isinstance(found, ast.Import):
            names.update(alias.name.partition(".")[0] for alias in found.names)
        elif isinstance(found, ast.ImportFrom):
            names.add((found.module or "").partition(".")[0])
    assert names - sys.stdlib_module_names == set()


def test_nothing_is_left_out() -> None:
    """Each function and class of the parts is in the file, once."""
    inside = [n.name for n in ast.parse(bundle.assemble()).body if isinstance(n, ast.FunctionDef | ast.ClassDef)]
    parts = [
        n.name
        for path in bundle.FOLDER.glob("*.py")
        for n in ast.parse(path.read_text()).body
        if isinstance(n, ast.FunctionDef | ast.ClassDef)
    ]
    assert sorted(inside) == sorted(parts)


def test_two_parts_may_not_define_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("one", "two"):
        (tmp_path / f"{part}.py").write_text('"""A part."""\n\n\ndef same() -> None:\n    return\n')
    monkeypatch.setattr(bundle, "FOLDER", tmp_path)
    monkeypatch.setattr(bundle, "PARTS", ("one", "two"))
    with pytest.raises(ValueError, match="both define same"):
        bundle.assemble.__wrapped__()


@pytest.mark.parametrize("python", pythons())
def test_it_runs_alone(python: str, tmp_path: Path) -> None:
    (tmp_path / "install.py").write_bytes(bundle.assemble())
    done = subprocess.run(
        [python, "-W", "error", "-I", "-S", str(tmp_path / "install.py"), "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert all(meaning[:30] in done.stdout for meaning in MEANINGS.values())
    done = subprocess.run([python, "-I", "-S", str(tmp_path / "install.py")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "Say which package: --package X.zip \n")


def test_older_pythons_are_told(tmp_path: Path) -> None:
    old = next(iter(sorted(Path.home().glob(".pyenv/versions/3.7.*/bin/python3"))), None)
    if old is None:
        pytest.skip("no Python 3.7 here")
    (tmp_path / "install.py").write_bytes(bundle.assemble())
    done = subprocess.run([str(old), str(tmp_path / "install.py"), "status"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "Python 3.8 or newer is needed.\n")
