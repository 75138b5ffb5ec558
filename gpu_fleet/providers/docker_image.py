"""The image of a local machine, made of programs of this server: sshd, Python, restic, busybox and our agent.

Nothing is pulled from a registry. The tag is a digest of what is inside, so a new agent makes a new image.
"""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from core.providers import InvalidRequest

REPOSITORY = "curfew-machine"
ROOT = Path(__file__).resolve().parent.parent.parent
_PROGRAMS = ("sshd", "ssh-keygen", "restic")
_LEFT_OUT = frozenset({"test", "tests", "idlelib", "ensurepip", "tkinter", "turtledemo", "lib2to3", "pydoc_data"})
_START = """#!/bin/sh
# First process of the machine: sshd, the agent, and a quick end when asked.
trap 'exit 0' TERM INT
mkdir -p /run/sshd /root/.ssh /workspace /var/lib/curfew /tmp
chmod 700 /root /root/.ssh
printf '%s\\n' "$CURFEW_AUTHORIZED_KEY" > /root/.ssh/authorized_keys
[ -f /etc/ssh/ssh_host_ed25519_key ] || ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key
env | grep -v -e TOKEN -e AUTHORIZED > /etc/environment
/usr/sbin/sshd -p "$CURFEW_SSH_PORT" -o ListenAddress=127.0.0.1 -o PasswordAuthentication=no -o UsePAM=no \\
  -o PermitRootLogin=prohibit-password -o PrintMotd=no -o PidFile=/run/sshd.pid
(while :; do cd /opt/curfew && PYTHONDONTWRITEBYTECODE=1 python3 -m agent machine; sleep 1; done) &
while :; do sleep 3600 & wait $!; done
"""
_PASSWD = "root:x:0:0:root:/root:/bin/sh\nsshd:x:74:74:sshd:/run/sshd:/bin/false\n"  # noqa: S105  no secret
_GROUP = "root:x:0:\ntty:x:5:\nsshd:x:74:\n"


def ensure(client: Any) -> str:
    """Return the image's name, importing it first when the engine does not have it.

    Raises InvalidRequest when this server lacks a program that a machine needs.
    """
    files = _contents()
    tag = _tag(files)
    name = f"{REPOSITORY}:{tag}"
    if client.images(name=name):
        return name
    with tempfile.TemporaryFile() as archive:
        _write(archive, files)
        archive.seek(0)
        client.import_image_from_data(archive.read(), repository=REPOSITORY, tag=tag)
    return name


def missing_programs() -> list[str]:
    """What this server lacks for making local machines."""
    return sorted(name for name, path in _programs().items() if path is None)


def _programs() -> dict[str, str | None]:
    found = {name: shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin") for name in _PROGRAMS}
    return {**found, "busybox": shutil.which("busybox")}


def _contents() -> dict[str, Path]:
    """Path inside the image to file of this server."""
    found: dict[str, Path] = {}
    programs = _programs()
    if missing := missing_programs():
        raise InvalidRequest(
            f"This server cannot make a local machine: {', '.join(missing)} is not installed.",
            code="no_machine_image",
            next_step="Install openssh-server, restic and busybox-static, or name an image that has them.",
        )
    for name, path in programs.items():
        _add(found, Path(str(path)).resolve(), "/bin/busybox" if name == "busybox" else str(path))
    python = Path(sys.executable).resolve()
    _add(found, python, "/usr/bin/python3")
    standard = Path(sysconfig.get_path("stdlib"))
    for file in sorted(standard.rglob("*")):
        parts = file.relative_to(standard).parts
        if not file.is_file() or "__pycache__" in parts or parts[0] in _LEFT_OUT or "-packages" in parts[0]:
            continue
        found[str(file)] = file
        if file.suffix == ".so":
            _libraries(found, file)
    for file in sorted((ROOT / "agent").rglob("*.py")):
        relative = file.relative_to(ROOT)
        if relative.parts[1] in ("__init__.py", "__main__.py", "transport.py", "machine"):
            found[f"/opt/curfew/{relative}"] = file
    for file in (Path("/etc/ssl/certs/ca-certificates.crt"),):
        if file.is_file():
            found[str(file)] = file
    return found


def _add(found: dict[str, Path], program: Path, inside: str) -> None:
    found[inside] = program
    _libraries(found, program)


def _libraries(found: dict[str, Path], file: Path) -> None:
    """What the loader needs beside a program, at the same places; nothing for a static one."""
    done = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False)  # noqa: S603, S607  a file of ours
    for line in done.stdout.splitlines():
        for word in line.split():
            if word.startswith("/") and Path(word).is_file():
                found[word] = Path(word).resolve()


def _tag(files: dict[str, Path]) -> str:
    summed = hashlib.sha256(_START.encode())
    for inside, file in sorted(files.items()):
        facts = file.stat()
        summed.update(f"{inside} {facts.st_size} ".encode())
        summed.update(file.read_bytes() if inside.startswith("/opt/curfew/") else str(facts.st_mtime_ns).encode())
    return f"local-{summed.hexdigest()[:16]}"


def _write(archive: IO[bytes], files: dict[str, Path]) -> None:
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for folder in _folders(files):
            entry = tarfile.TarInfo(folder.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "/tmp" else 0o755  # noqa: S108  inside the image
            tar.addfile(entry)
        for inside, file in sorted(files.items()):
            entry = tarfile.TarInfo(inside.lstrip("/"))
            entry.size, entry.mode = file.stat().st_size, 0o755 if file.stat().st_mode & 0o100 else 0o644
            with file.open("rb") as source:
                tar.addfile(entry, source)
        for name, text, mode in (
            ("etc/passwd", _PASSWD, 0o644),
            ("etc/group", _GROUP, 0o644),
            ("etc/ssh/sshd_config", "Subsystem sftp internal-sftp\n", 0o644),
            ("curfew-start", _START, 0o755),
        ):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), mode
            tar.addfile(entry, io.BytesIO(text.encode()))
        for command in _busybox_commands(files["/bin/busybox"]):
            entry = tarfile.TarInfo(f"bin/{command}")
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, "busybox", 0o777
            tar.addfile(entry)


def _folders(files: Iterable[str]) -> list[str]:
    wanted = {"/tmp", "/run", "/root", "/workspace", "/var/lib", "/var/cache", "/etc/ssh", "/proc", "/sys", "/dev"}  # noqa: S108
    for inside in files:
        wanted.update(str(parent) for parent in Path(inside).parents if str(parent) != "/")
    return sorted({str(p) for w in wanted for p in (Path(w), *Path(w).parents) if str(p) != "/"})


def _busybox_commands(program: Path) -> list[str]:
    done = subprocess.run([str(program), "--list"], capture_output=True, text=True, check=True)  # noqa: S603  found by which
    return [name for name in done.stdout.split() if name != "busybox" and "/" not in name]
