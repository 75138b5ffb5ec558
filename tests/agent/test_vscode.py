"""The extension for VS Code compiles, and its tests pass, with the packages of its lock file."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.setup import npm_command

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(300)]
EXTENSION = Path(__file__).resolve().parents[2] / "agent" / "vscode"


def test_the_extension_compiles_and_its_tests_pass(tmp_path: Path) -> None:
    npm = npm_command()
    if npm is None:
        pytest.skip("no npm of the machine's own is new enough")
    place = tmp_path / "vscode"
    shutil.copytree(EXTENSION, place, ignore=shutil.ignore_patterns("node_modules", "out"))
    for words in (["ci"], ["test"]):
        done = subprocess.run([*npm, *words], cwd=place, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    loaded = json.loads((place / "package.json").read_text(encoding="utf-8"))["main"]
    assert (place / loaded).is_file(), "VS Code would not find the compiled extension"
    assert "# fail 0" in done.stdout
    assert "# pass 0" not in done.stdout
