"""Copying of npm packages, and the lock file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from core import frontend

pytestmark = pytest.mark.unit

ROOT = Path(__file__).resolve().parent.parent.parent


def packages(folder: Path) -> Path:
    """A node_modules that holds each wanted file, tiny."""
    modules = folder / "node_modules"
    names = [
        *frontend.FILES,
        "@fontsource-variable/inter/files/inter-latin-opsz-normal.woff2",
        *(f"{frontend.ICON_FOLDER}/{name}.svg" for name in frontend.ICONS),
    ]
    for name in names:
        path = modules / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n//# sourceMappingURL={path.name}.map\n" if path.suffix == ".js" else name)
    return modules


def test_copies_once_and_then_nothing(tmp_path: Path) -> None:
    modules, vendor = packages(tmp_path), tmp_path / "vendor"
    first = frontend.copy(modules, vendor)
    assert len(first.written) == len(frontend.FILES) + 1 + len(frontend.ICONS)
    assert "sourceMappingURL" not in (vendor / "htmx.min.js").read_text()
    second = frontend.copy(modules, vendor)
    assert (second.written, second.removed, second.unchanged) == ((), (), len(first.written))


def test_a_changed_package_is_copied_and_a_stray_file_removed(tmp_path: Path) -> None:
    modules, vendor = packages(tmp_path), tmp_path / "vendor"
    frontend.copy(modules, vendor)
    (modules / "htmx.org/dist/htmx.min.js").write_text("new")
    (vendor / "old.js").write_text("old")
    done = frontend.copy(modules, vendor)
    assert done.written == ("htmx.min.js",)
    assert done.removed == ("old.js",)


def test_missing_package_says_what_to_run(tmp_path: Path) -> None:
    modules = packages(tmp_path)
    (modules / "echarts/dist/echarts.min.js").unlink()
    with pytest.raises(frontend.FrontendError, match=r"echarts.*npm ci"):
        frontend.copy(modules, tmp_path / "vendor")


def test_icons_are_listed_once() -> None:
    assert len(set(frontend.ICONS)) == len(frontend.ICONS)


def test_runs_without_django() -> None:
    code = "import sys; sys.modules['django'] = None; import core.frontend; print(len(core.frontend.ICONS))"
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    assert ran.returncode == 0, ran.stderr
    assert int(ran.stdout) > 100


def test_lock_file_names_no_address_to_download_from() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    entries = [entry for name, entry in lock["packages"].items() if name]
    assert entries
    assert all("resolved" not in entry for entry in entries)
    assert all(entry["integrity"].startswith("sha512-") for entry in entries)
    assert not re.search(r"regist", (ROOT / "package-lock.json").read_text(), re.IGNORECASE)
