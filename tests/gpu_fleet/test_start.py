"""A machine's first start and its stable name: which restic counts as new, and where `ssh NAME.curfew` goes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.cli import ssh
from agent.machine import work
from gpu_fleet.models import Machine
from gpu_fleet.onstart import onstart
from tests.gpu_fleet.conftest import Fleet
from tests.gpu_fleet.test_race import market
from tests.personas import Persona


@pytest.mark.parametrize(
    ("told", "installs"),
    [("restic 0.14.0 compiled", False), ("restic 1.0.0 x", False), ("restic 0.12.1 compiled", True), (None, True)],
)
def test_a_machine_without_a_new_restic_gets_one(tmp_path: Path, told: str | None, installs: bool) -> None:
    line = next(row for row in onstart(("/workspace",)).splitlines() if row.startswith("new()"))
    if told is not None:
        (tmp_path / "restic").write_text(f"#!/bin/sh\necho '{told}'\n")
        (tmp_path / "restic").chmod(0o755)
    for tool in ("awk", "sh"):
        (tmp_path / tool).symlink_to(Path(f"/usr/bin/{tool}").resolve())
    done = subprocess.run(["sh", "-c", f"{line}\nnew"], env={"PATH": str(tmp_path)}, check=False)
    assert (done.returncode != 0) is installs


def test_an_old_restic_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = '#!/bin/sh\n[ "$1" = version ] && echo "restic 0.12.1 compiled with go1.18" && exit 0\nexit 1\n'
    (tmp_path / "restic").write_text(old)
    (tmp_path / "restic").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(work.Failed, match=r"has restic 0\.12\.1; 0\.14 or newer is needed"):
        work.restic({"repository": "/nowhere", "password": "x"}, ["backup", "/"], lambda told: None)


class Platform:
    """The public API as the command line calls it, through the ordinary views."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, method: str, path: str, content: Any = None) -> Any:
        reply = self._client.generic(
            method, path, data="" if content is None else b"{}", content_type="application/json"
        )
        assert reply.status_code < 300, reply.content
        return reply.json()


@pytest.mark.django_db
def test_one_name_follows_the_machine_with_its_keys(
    fleet: Fleet, deploy: Callable[..., Machine], bob: Persona, client_of: Callable[[Persona], Any]
) -> None:
    market(fleet, 30)
    machine = deploy("ember", strategy="cheapest")
    fleet.until_done()
    machine.refresh_from_db()
    assert machine.rental is not None
    platform = Platform(client_of(bob))  # whoever may see it may log in with a key of their own
    first = ssh.address(platform, "ember.curfew", wake=False)
    assert first == {
        "host": "127.0.0.1",
        "port": machine.rental.ssh_port,
        "user": "root",
        "host_keys": ["ssh-ed25519 AAAA"],
    }
    assert ssh.address(platform, "ember", wake=False) == first
    with pytest.raises(ssh.NotThere, match="no GPU machine named embe"):
        ssh.address(platform, "embe.curfew", wake=False)
    Machine.objects.for_org(machine.organization_id).update(rental=None, observed_state="asleep")
    with pytest.raises(ssh.NotThere, match="--wake"):
        ssh.address(platform, "ember.curfew", wake=False)


def test_the_configuration_of_ssh_is_understood_by_ssh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from agent.cli.main import main

    assert main(["ssh-config", "--wake"]) == 0
    file = tmp_path / "config"
    file.write_text(capsys.readouterr().out)
    told = subprocess.run(["ssh", "-G", "-F", str(file), "ember.curfew"], capture_output=True, text=True, check=True)
    lines = dict(line.split(" ", 1) for line in told.stdout.splitlines() if " " in line)
    assert lines["user"] == "root"
    assert lines["proxycommand"].endswith("connect --wake %n")
    assert lines["knownhostscommand"].startswith("/")
    assert lines["stricthostkeychecking"] in ("yes", "true")
