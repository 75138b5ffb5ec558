"""Where things are, relative to the project; nothing here touches the disk but `data_folder`."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
SETUP_STAMP = VENV / "curfew-setup.json"
REQUIREMENTS = ("requirements.txt", "requirements-demo.txt", "requirements-dev.txt")
DEFAULT_PORT = 8000
DEFAULT_HOST = "127.0.0.1"


def data_folder(given: str | None, *, demo: bool = False) -> Path:
    """The absolute data folder: `given`, else CURFEW_DATA, else `.data/demo` or `.data/main` in the project."""
    chosen = given or os.environ.get("CURFEW_DATA") or str(ROOT / ".data" / ("demo" if demo else "main"))
    return Path(chosen).expanduser().resolve()


def make_private_folder(path: Path) -> Path:
    """Create the folder with its parents, mode 0700; a folder that already exists keeps its mode."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)
    return path
