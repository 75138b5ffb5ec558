"""`connect`, `host-keys` and `ssh-config`: one name for a GPU machine, on whatever host it runs now.

SSH asks Curfew on each connection where the machine is and which host keys its agent told, so that name and keys move
along when the machine wakes elsewhere or its standby serves in its place.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

DOMAIN = ".curfew"
WAKE_SECONDS = 1800
CONFIG = """# Curfew: {about}
Host *{domain}
  User root
  ProxyCommand {program} connect{wake} %n
  KnownHostsCommand {program} host-keys %H
  UserKnownHostsFile /dev/null
  GlobalKnownHostsFile /dev/null
  StrictHostKeyChecking yes
  CheckHostIP no
"""


class NotThere(Exception):
    """The machine cannot be reached now; the text says why and what to do."""


def find(platform: Any, name: str) -> dict[str, Any]:
    """The machine of this name, with its address. Raises NotThere."""
    plain = name.removesuffix(DOMAIN)
    rows = platform.call("GET", f"/api/v1/instances?{urlencode({'search': plain, 'page_size': 200})}")["results"]
    for row in rows:
        if row["name"] == plain:
            found: dict[str, Any] = platform.call("GET", f"/api/v1/instances/{quote(row['id'])}")
            return found
    raise NotThere(f"Curfew knows no GPU machine named {plain}.")


def address(platform: Any, name: str, *, wake: bool) -> dict[str, Any]:
    """Where it is, waking it first if that was asked for. Raises NotThere."""
    machine = find(platform, name)
    if machine["address"] is None and wake and machine["status"] == "asleep":
        platform.call("POST", f"/api/v1/instances/{quote(machine['id'])}/wake", {"reason": "ssh"})
        sys.stderr.write(f"{machine['name']} is being woken.\n")
        machine = _until_awake(platform, machine)
    if machine["address"] is None:
        hint = "" if machine["status"] != "asleep" else " Wake it, or connect with --wake."
        raise NotThere(f"{machine['name']} cannot be reached: {machine['status']}.{hint}")
    found: dict[str, Any] = machine["address"]
    return found


def _until_awake(platform: Any, machine: dict[str, Any]) -> dict[str, Any]:
    until = time.monotonic() + WAKE_SECONDS
    while time.monotonic() < until:
        machine = platform.call("GET", f"/api/v1/instances/{quote(machine['id'])}")
        if machine["operation"] is None:
            if machine["address"] is None:
                raise NotThere((machine["error"] or {}).get("message") or f"{machine['name']} was not woken.")
            return machine
        time.sleep(2)
    raise NotThere(f"{machine['name']} is not awake yet; its page says why.")


def connect(platform: Any, options: argparse.Namespace) -> int:
    """Carry the bytes between SSH and the machine: what a ProxyCommand does."""
    try:
        where = address(platform, options.machine, wake=options.wake)
    except NotThere as why:
        sys.stderr.write(f"{why}\n")
        return 1
    with socket.create_connection((where["host"], where["port"]), timeout=20) as line:
        line.settimeout(None)
        threading.Thread(target=_up, args=(line,), daemon=True).start()
        while data := line.recv(65_536):
            os.write(1, data)
    return 0


def _up(line: socket.socket) -> None:
    try:
        while data := os.read(0, 65_536):
            line.sendall(data)
        line.shutdown(socket.SHUT_WR)
    except OSError:
        return  # the other direction ends too and says so


def host_keys(platform: Any, options: argparse.Namespace) -> int:
    """Lines of a known_hosts file for the name: what a KnownHostsCommand tells."""
    try:
        where = address(platform, options.machine, wake=False)
    except NotThere as why:
        sys.stderr.write(f"{why}\n")
        return 1
    for key in where["host_keys"]:
        sys.stdout.write(f"{options.machine} {key}\n")
    return 0


def config(platform: Any, options: argparse.Namespace) -> int:
    """What to put into ~/.ssh/config. The address and key of Curfew stay in the environment."""
    about = "one name for each GPU machine, wherever it runs. Needs CURFEW_URL and CURFEW_API_KEY."
    wake = " --wake" if options.wake else ""
    sys.stdout.write(CONFIG.format(about=about, domain=DOMAIN, program=_program(), wake=wake))
    return 0


def _program() -> str:
    """This program by an absolute path, as SSH wants it."""
    installed = shutil.which("curfew-agent")
    if installed:
        return f"{shlex.quote(installed)} cli"
    home = str(Path(__file__).resolve().parents[2])
    return f"/usr/bin/env PYTHONPATH={shlex.quote(home)} {shlex.quote(sys.executable)} -m agent cli"


def add_to(verbs: Any) -> None:
    """The three commands."""
    for name, run, words in (
        ("connect", connect, "carry an SSH connection to a GPU machine (a ProxyCommand)"),
        ("host-keys", host_keys, "the host keys of a GPU machine (a KnownHostsCommand)"),
        ("ssh-config", config, "print what makes `ssh NAME.curfew` work, for ~/.ssh/config"),
    ):
        one = verbs.add_parser(name, help=words)
        if name != "ssh-config":
            one.add_argument("machine", help="its name, also as NAME.curfew")
        if name != "host-keys":
            one.add_argument("--wake", action="store_true", help="wake it when it is asleep, and wait")
        one.set_defaults(run=run)
