"""A machine's first start and its stable name: which restic counts as new, and where `ssh NAME.curfew` goes."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts import services as accounts
from agent.cli import ssh
from agent.machine import logins, work
from core.errors import InvalidInput
from gpu_fleet import services
from gpu_fleet.models import Machine, Rental
from gpu_fleet.onstart import onstart
from gpu_fleet.providers.ssh import new_key
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


def test_keys_of_people_have_a_part_of_their_own_in_authorized_keys(tmp_path: Path) -> None:
    file = tmp_path / ".ssh/authorized_keys"
    assert logins.write(["ssh-ed25519 AAAA ann"], file)
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    file.write_text("ssh-rsa BBBB the provider's\n" + file.read_text() + "ssh-rsa CCCC by hand\n")
    assert logins.write(["ssh-ed25519 DDDD bob", "two\nlines", 7], file)
    assert [line for line in file.read_text().splitlines() if not line.startswith("#")] == [
        "ssh-rsa BBBB the provider's",
        "ssh-rsa CCCC by hand",
        "ssh-ed25519 DDDD bob",
    ]
    assert not logins.write(["ssh-ed25519 DDDD bob"], file)
    assert logins.write([], file)
    assert file.read_text() == "ssh-rsa BBBB the provider's\nssh-rsa CCCC by hand\n"
    file.write_text("kept")
    assert not logins.write(["x"], file / "below a file")


@pytest.mark.django_db
def test_public_keys_are_told_to_machines_and_nothing_else_is_taken_for_one(
    fleet: Fleet, deploy: Callable[..., Machine], alice: Persona
) -> None:
    _, key = new_key("ann@larkspur")
    for bad in ("hello", f'command="true" {key}', "ssh-ed25519 AAAA ann", f"{key}\x07"):
        with pytest.raises(InvalidInput):
            services.change_settings(actor=alice.actor, login_keys=f"{key}\n{bad}")
    services.change_settings(actor=alice.actor, login_keys=f"# ann\n{key}\n\n{key}\n")
    market(fleet, 30)
    deploy("ember", strategy="cheapest")
    fleet.until_done()
    fleet.agents()
    (reply,) = fleet.replies.values()
    assert reply["login_keys"] == [key]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[tuple[int, str, Path]]:
    """A real sshd for this user: its port, its host key, its authorized_keys."""
    program = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
    if program is None:
        pytest.skip("sshd is not installed")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "host")], check=True)
    keys = tmp_path / "home/authorized_keys"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    Path("/run/sshd").mkdir(exist_ok=True)
    options = {
        "ListenAddress": "127.0.0.1",
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": keys,
        "StrictModes": "no",
        "UsePAM": "no",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "PidFile": "none",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    with (tmp_path / "sshd.log").open("wb") as log:
        child = subprocess.Popen([program, "-D", "-e", "-f", "/dev/null", "-p", str(port), *words], stderr=log)
    yield port, " ".join((tmp_path / "host.pub").read_text().split()[:2]), keys
    child.terminate()
    child.wait(10)


@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(os.geteuid() != 0, reason="machines are logged in to as root")
def test_ssh_by_name_logs_in_with_a_key_of_ones_own_and_refuses_another_host(
    fleet: Fleet,
    deploy: Callable[..., Machine],
    alice: Persona,
    live_server: Any,
    sshd: tuple[int, str, Path],
    tmp_path: Path,
) -> None:
    private, public = new_key("ann@larkspur")
    _, api_key = accounts.create_api_key(actor=alice.actor, name="ssh", scopes=["gpu.view"])
    services.change_settings(actor=alice.actor, login_keys=public)
    market(fleet, 30)
    machine = deploy("ember", strategy="cheapest")
    fleet.until_done()
    fleet.agents()
    (reply,) = fleet.replies.values()
    port, host_key, keys = sshd
    assert logins.write(reply["login_keys"], keys)
    rentals = Rental.objects.for_org(machine.organization_id).filter(lane="won")
    rentals.update(ssh_host="127.0.0.1", ssh_port=port, host_keys=[host_key])
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "CURFEW_URL": live_server.url,
        "CURFEW_API_KEY": api_key,
    }
    agent = [sys.executable, "-m", "agent", "cli"]
    told = subprocess.run([*agent, "ssh-config"], capture_output=True, text=True, check=True, env=environment)
    (tmp_path / "config").write_text(told.stdout)
    (tmp_path / "id").write_text(private)
    (tmp_path / "id").chmod(0o600)
    command = ["ssh", "-F", str(tmp_path / "config"), "-i", str(tmp_path / "id"), "-o", "BatchMode=yes"]

    def enter() -> subprocess.CompletedProcess[str]:
        words = [*command, "ember.curfew", "cat > /dev/null; echo here it is"]
        return subprocess.run(
            words, input="x" * 200_000, capture_output=True, text=True, timeout=120, check=False, env=environment
        )

    done = enter()
    assert (done.returncode, done.stdout) == (0, "here it is\n"), done.stderr
    rentals.update(host_keys=["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIB8P4Cz4ms9QGdc/k+KnqPfeZnv6KDYqxYpVJfFQhzxA"])
    refused = enter()
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr
