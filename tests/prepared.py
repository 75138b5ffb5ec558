"""A migrated database, made once for each state of the sources and copied wherever a test needs an empty one.

Migrating takes many seconds of a processor (PostgreSQL: 20), and each test process and each server that a test
starts would do it again. The first to ask migrates by the ordinary command; what is copied is that SQLite database with
its stamp, or a dump of that PostgreSQL database. The name of its
folder holds a hash of every migration, of the audit log's triggers, of the requirements and of Python, so that another
state of the sources gets another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from importlib.metadata import distributions
from pathlib import Path

from launcher import keys
from tests import stack
from tests.live.processes import ROOT, clean_environment

KEEP_SECONDS = 3 * 24 * 3600
DATABASE, STAMP, DUMP = "curfew.sqlite3", "migrated.json", "curfew.pgsql"
_MIGRATE = (
    "import django, pathlib; django.setup()\n"
    "from django.conf import settings\n"
    "from django.core.management import call_command\n"
    "from core.startup import remember_migrated\n"
    "call_command('migrate', interactive=False, verbosity=0)\n"
    "remember_migrated(pathlib.Path(settings.CURFEW_DATA))\n"
)


def sources() -> str:
    """Names the state of everything that a new database is made of."""
    total = hashlib.sha256(sys.version.encode())
    for path in [
        *sorted(ROOT.glob("*/migrations/*.py")),
        *sorted(ROOT.glob("audit/*.py")),
        ROOT / "config/settings.py",
    ]:
        total.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    total.update("\n".join(sorted(f"{d.name} {d.version}" for d in distributions())).encode())
    return total.hexdigest()[:16]


def prepared() -> Path:
    """A folder with the migrated database and its stamp, made now if there is none."""
    home = Path(tempfile.gettempdir()) / f"curfew-tests-{os.getuid()}"
    home.mkdir(mode=0o700, exist_ok=True)
    assert home.stat().st_uid == os.getuid(), f"{home} belongs to somebody else"
    ready = home / sources()
    with Path(f"{ready}.lock").open("w") as lock:  # another state of the sources, in another tree, is not waited for
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            making = Path(tempfile.mkdtemp(prefix="making-", dir=home))
            _make(making)
            for old in home.iterdir():
                if old.is_dir() and time.time() - old.stat().st_mtime > KEEP_SECONDS:
                    shutil.rmtree(old, ignore_errors=True)
            making.rename(ready)
    return ready


def _migrate(folder: Path, **more: str) -> None:
    keys.ensure(folder, defaults={}, environ={})
    environment = clean_environment(CURFEW_DATA=str(folder), DJANGO_SETTINGS_MODULE="config.settings", **more)
    subprocess.run([sys.executable, "-c", _MIGRATE], cwd=ROOT, env=environment, check=True, timeout=300)


def _make(folder: Path) -> None:
    _migrate(folder)
    with sqlite3.connect(folder / DATABASE) as database:  # one file, without a log beside it
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def fill(database: sqlite3.Connection) -> None:
    """Copy the prepared database into an open, empty one."""
    with sqlite3.connect(f"file:{prepared() / DATABASE}?mode=ro", uri=True) as source:
        source.backup(database)
    source.close()


def put_into(folder: Path) -> None:
    """Give a new data folder the prepared database and its stamp, as if it had been migrated here."""
    ready = prepared()
    for name in (DATABASE, STAMP):
        if not (folder / name).exists():
            shutil.copyfile(ready / name, folder / name)
            (folder / name).chmod(0o600)


def fill_postgres(server: str, database: str) -> None:
    """Put the dump into an empty database of a server; `server` is the URL of any database there."""
    base = server.rpartition("/")[0]
    ready = prepared()
    with Path(f"{ready}.postgres-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (ready / DUMP).exists():
            _dump(base, ready / DUMP)
    _psql("--single-transaction", "-f", str(ready / DUMP), f"{base}/{database}")


def _dump(base: str, into: Path) -> None:
    name = f"prepared_{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="curfew-prepared-") as folder:
        _psql("-c", f"CREATE DATABASE {name}", f"{base}/postgres")
        try:
            _migrate(Path(folder), DATABASE_URL=f"{base}/{name}")
            made = into.with_suffix(f".{os.getpid()}")
            subprocess.run([stack.find("pg_dump"), "--no-owner", "-f", made, f"{base}/{name}"], check=True, timeout=120)
            made.rename(into)
        finally:
            _psql("-c", f"DROP DATABASE {name}", f"{base}/postgres")


def _psql(*arguments: str) -> None:
    command = [stack.find("psql"), "-X", "-q", "-o", os.devnull, "-v", "ON_ERROR_STOP=1", *arguments]
    subprocess.run(command, check=True, timeout=120)
