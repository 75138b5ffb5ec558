"""Snapshots in a remote of rclone, with real rclone and restic: kept, reached by machines through the server, nothing lost."""

from __future__ import annotations

import hashlib
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
from django.test import Client

from audit.models import AuditEntry
from core import clock
from core.errors import Forbidden, InvalidInput
from gpu_fleet import gateway, passes, services
from gpu_fleet.models import FleetSettings, Machine, Snapshot
from gpu_fleet.providers import passing, rclone
from operations.models import Operation
from tests.fakes.s3 import moto_server
from tests.gpu_fleet.rclone_rig import alias, web_server
from tests.gpu_fleet.test_hibernate import Disk, disk  # noqa: F401  a fixture
from tests.personas import Persona

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed"),
    pytest.mark.skipif(shutil.which("rclone") is None, reason="rclone is not installed"),
]
REAL = gateway.repository_for_machine
NAME = "a" * 64


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    rclone.end_all()


@pytest.fixture
def nas(tmp_path: Path, settings: Any) -> Path:
    settings.CURFEW_RCLONE_FOLDERS = [str(tmp_path / "nas")]
    return tmp_path / "nas"


@pytest.fixture
def web(settings: Any) -> Iterator[str]:
    with web_server() as address:
        settings.CURFEW_BASE_URL = address
        yield address


@pytest.fixture
def kept(disk: Disk, nas: Path, web: str, alice: Persona, monkeypatch: pytest.MonkeyPatch) -> Disk:  # noqa: F811
    """A machine that is awake and has files; its snapshots go to a remote, by way of a real web server."""
    services.change_settings(actor=alice.actor, storage="rclone", rclone_config=alias(nas), rclone_folder="fleet/")
    monkeypatch.setattr("gpu_fleet.gateway.repository_for_machine", REAL)
    return disk


def _sleep(disk: Disk, alice: Persona) -> Operation:  # noqa: F811
    operation = services.request_hibernate(actor=alice.actor, machine_id=disk.machine.id)
    disk.fleet.until_done()
    operation.refresh_from_db()
    return operation


# --- what may be in a configuration ---------------------------------------------------------------------------------

REFUSED = {
    "nothing": ("", "rclone config show"),
    "no section": ("type = s3", "rclone config show"),
    "no type": ("[a]\nregion = x", "no type"),
    "a folder of the server": ("[a]\ntype = local", "from the root|CURFEW_RCLONE_FOLDERS"),
    "an alias of the root": ("[a]\ntype = alias\nremote = /", "CURFEW_RCLONE_FOLDERS"),
    "an alias beside": ("[a]\ntype = alias\nremote = {nas}-not", "CURFEW_RCLONE_FOLDERS"),
    "an alias out of": ("[a]\ntype = alias\nremote = {nas}/../x", "CURFEW_RCLONE_FOLDERS"),
    "a remote on the fly": ("[a]\ntype = alias\nremote = :local:/etc", "paste"),
    "a connection string": ("[a]\ntype = alias\nremote = b,env_auth=true:x\n[b]\ntype = s3", "paste"),
    "an unknown remote below": ("[a]\ntype = crypt\nremote = b:x", "paste"),
    "out of the one below": ("[a]\ntype = crypt\nremote = b:../x\n[b]\ntype = s3", r"\.\."),
    "a union": ("[a]\ntype = union\nupstreams = /etc /tmp", "joins"),
    "a program": ("[a]\ntype = webdav\nbearer_token_command = id", "program"),
    "ssh as a program": ("[a]\ntype = sftp\nssh = sh -c id", "program"),
    "a file": ("[a]\ntype = sftp\nkey_file = /root/.ssh/id", "file"),
    "the server's identity": ("[a]\ntype = s3\nenv_auth = true", "identity"),
    "a global option": ("[a]\ntype = s3\nglobal.config = x", "no option"),
    "a token that turns": ("[a]\ntype = box\ntoken = x", "changes with each use"),
    "a remote that forgets": ("[a]\ntype = memory", "keeps nothing"),
    "its own name below": ("[a]\ntype = crypt\nremote = curfew:x\n[curfew]\ntype = s3", "cannot be called"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_configuration_cannot_use_the_server_itself(case: str, nas: Path) -> None:
    nas.mkdir()
    text, words = REFUSED[case]
    with pytest.raises(ValueError, match=words):
        rclone.parse(text.format(nas=nas), "x", [str(nas)])


def test_a_link_does_not_lead_out_of_an_allowed_folder(nas: Path) -> None:
    nas.mkdir()
    (nas / "out").symlink_to("/etc")
    with pytest.raises(ValueError, match="CURFEW_RCLONE_FOLDERS"):
        rclone.parse(f"[a]\ntype = alias\nremote = {nas}/out", "", [str(nas)])


def test_folders_are_paths_without_dots() -> None:
    remote = rclone.parse("[a]\ntype = s3\nenv_auth = false\nkey = a=b", " /back/ups// ")
    assert remote.location("x") == "curfew:back/ups/x"
    assert remote.environment()["RCLONE_CONFIG_CURFEW_KEY"] == "a=b"
    for folder in ("../x", "a/../b", "a\nb"):
        with pytest.raises(ValueError, match="folder is a path"):
            rclone.parse("[a]\ntype = s3", folder)


# --- settings -------------------------------------------------------------------------------------------------------


def test_a_remote_is_tried_kept_sealed_and_never_shown(alice: Persona, nas: Path, client: Client) -> None:
    client.force_login(alice.user)
    config = f"{alias(nas)}description = s3cr3t-words\n"
    page = client.get("/gpu-fleet/settings")
    assert b"Configuration of the remote" in page.content
    form = {name: value for name, value in page.context["form"].initial.items() if value is not None}
    answer = client.post("/gpu-fleet/settings", {**form, "storage": "rclone", "rclone_config": config})
    assert answer.status_code == 302, answer.context["form"].errors
    assert list(nas.iterdir()) == []  # what was tried is gone again
    rules = FleetSettings.objects.for_org(alice.organization.id).get()
    assert (rules.storage, rules.rclone_type) == ("rclone", "alias")
    assert "s3cr3t" not in rules.rclone_sealed
    shown = client.get("/gpu-fleet/settings").content.decode() + client.get("/api/settings").content.decode()
    shown += str(list(AuditEntry.objects.all_orgs().values_list("changes", "detail")))
    assert "s3cr3t" not in shown
    assert str(nas) not in shown
    assert "A remote is stored" in shown
    # left empty it stays; another folder is tried with what is stored
    services.change_settings(actor=alice.actor, rclone_config="", rclone_folder="deeper", keep_last=3)
    assert gateway.remote_of(services.settings_of(alice.organization.id)).location() == "curfew:deeper"


def test_a_remote_that_does_not_work_is_refused_with_the_next_step(
    alice: Persona, nas: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def words(config: str) -> str:
        with pytest.raises(InvalidInput) as refused:
            services.change_settings(actor=alice.actor, storage="rclone", rclone_config=config)
        return str(refused.value.errors)

    assert "Paste what" in words("")
    secret = "verysecretkey0815"
    said = words(f"[a]\ntype = s3\nprovider = Other\nendpoint = http://127.0.0.1:9\naccess_key_id = {secret}\n")
    assert "rclone lsd" in said
    assert secret not in said
    assert "rclone lsd" in words("[a]\ntype = nosuchthing\n")
    assert "metadata service" in words("[a]\ntype = webdav\nurl = http://169.254.169.254/latest\n")
    assert "cannot be resolved" in words("[a]\ntype = sftp\nhost = no.such.host.invalid\n")
    locked = tmp_path / "nas" / "locked"
    locked.mkdir(parents=True)
    (locked / "file").write_text("")
    assert "refuses" in words(f"[a]\ntype = alias\nremote = {locked}/file\n")
    old = tmp_path / "old"
    old.mkdir()
    (old / "rclone").write_text("#!/bin/sh\necho 'rclone v1.36'\n")
    (old / "rclone").chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{old}:{os.environ['PATH']}")
    assert "has rclone 1.36" in words(alias(nas))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "apt-get install rclone" in words(alias(nas))
    rules = services.settings_of(alice.organization.id)
    assert (rules.storage, rules.rclone_sealed) == ("local", "")
    with pytest.raises(InvalidInput):  # pasted, and another storage chosen
        services.change_settings(actor=alice.actor, storage="local", rclone_config=alias(nas))


def test_a_remote_that_never_answers_is_given_up(nas: Path) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        text = f"[a]\ntype = webdav\nurl = http://127.0.0.1:{silent.getsockname()[1]}/\n"
        began = time.monotonic()
        with pytest.raises(rclone.TimedOut, match="did not answer"):
            rclone.check(rclone.parse(text, ""), seconds=2)
        assert time.monotonic() - began < 6


# --- a machine's life -----------------------------------------------------------------------------------------------


def test_a_whole_life_by_way_of_this_server(kept: Disk, alice: Persona, nas: Path) -> None:
    """Saved, verified, brought back, forgotten; the machine is given neither the remote's keys nor its name."""
    orders: list[dict[str, Any]] = []
    plain = kept._carry_out

    def carry_out(order: dict[str, Any]) -> None:
        orders.append(order)
        plain(order)

    kept._carry_out = carry_out  # type: ignore[method-assign]
    before = kept.digest()
    done = _sleep(kept, alice)
    assert done.status == "succeeded", done.error
    folder = nas / "fleet/curfew" / str(kept.machine.id)
    assert (folder / "config").is_file()
    snapshot = Snapshot.objects.for_org(kept.machine.organization_id).get()
    assert (snapshot.state, snapshot.files) == ("verified", 31)
    kept.new()
    services.request_wake(actor=alice.actor, machine_id=kept.machine.id)
    kept.fleet.until_done()
    assert kept.digest() == before
    assert str(nas) not in str(orders)
    assert {order["repository"].partition("@")[2].partition("/")[2] for order in orders} == {
        f"api/agent/machine/repository/{kept.machine.id}/"
    }
    services.verify_again(actor=alice.actor, snapshot_id=snapshot.id)
    # retention, by this server alone
    kept.machine.refresh_from_db()
    services.change_settings(actor=alice.actor, keep_last=1)
    (kept.folder / "new.bin").write_bytes(os.urandom(50_000))
    services.request_snapshot(actor=alice.actor, machine_id=kept.machine.id)
    kept.fleet.until_done()
    assert services.apply_retention(machine=kept.machine) == 1
    repository = gateway.repository_of(kept.machine, services.settings_of(kept.machine.organization_id))
    assert len(repository.snapshots()) == 1
    repository.run("check", "--read-data", "--no-lock")
    assert list((folder / "locks").iterdir()) == []


@pytest.mark.slow
def test_the_same_with_a_bucket_as_the_remote(kept: Disk, alice: Persona) -> None:
    with moto_server() as url:
        keys = {"aws_access_key_id": "server", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        s3 = boto3.client("s3", endpoint_url=url, **keys)
        s3.create_bucket(Bucket="snapshots")
        config = (
            f"[r2]\ntype = s3\nprovider = Other\naccess_key_id = server\nsecret_access_key = secret\nregion = us-east-1\n"
            f"endpoint = {url}\n"
        )
        services.change_settings(actor=alice.actor, rclone_config=config, rclone_folder="snapshots/fleet")
        before = kept.digest()
        done = _sleep(kept, alice)
        assert done.status == "succeeded", done.error
        kept.new()
        services.request_wake(actor=alice.actor, machine_id=kept.machine.id)
        kept.fleet.until_done()
        assert kept.digest() == before
        names = [row["Key"] for row in s3.list_objects_v2(Bucket="snapshots")["Contents"]]
        assert names
        assert all(name.startswith(f"fleet/curfew/{kept.machine.id}/") for name in names)


@pytest.mark.slow
def test_rclone_killed_in_the_middle_of_a_backup_costs_a_retry_and_nothing_else(
    kept: Disk, alice: Persona, nas: Path
) -> None:
    (kept.folder / "large.bin").write_bytes(os.urandom(160_000_000))
    before = kept.digest()
    data, killed = nas / "fleet/curfew" / str(kept.machine.id) / "data", []

    def kill() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and len(killed) < 2:
            (server,) = list(rclone._served.values()) or [None]
            half = [f for f in data.glob("*/*") if f.stat().st_size] if data.is_dir() else []
            if server is not None and server.alive and server.pid and len(half) > len(killed):
                os.kill(server.pid, signal.SIGKILL)
                killed.append(server.pid)
                time.sleep(0.3)
            time.sleep(0.002)

    killer = threading.Thread(target=kill)
    killer.start()
    done = _sleep(kept, alice)
    killer.join()
    assert killed, "it was too fast to be killed"
    assert done.status == "succeeded", done.error
    kept.new()
    services.request_wake(actor=alice.actor, machine_id=kept.machine.id)
    kept.fleet.until_done()
    assert kept.digest() == before
    repository = gateway.repository_of(kept.machine, services.settings_of(kept.machine.organization_id))
    repository.run("check", "--read-data", "--no-lock")


def test_a_remote_that_is_lost_is_a_clear_failure_and_the_machine_stays(kept: Disk, alice: Persona, nas: Path) -> None:
    nas.rmdir() if nas.is_dir() and not list(nas.iterdir()) else shutil.rmtree(nas)
    nas.write_text("no folder any more")
    operation = services.request_hibernate(actor=alice.actor, machine_id=kept.machine.id)
    kept.fleet.until_done()
    operation.refresh_from_db()
    assert operation.status == "failed"
    assert operation.error
    kept.machine.refresh_from_db()
    assert kept.machine.rental_id is not None
    assert len(kept.fleet.world.instances) == 1


# --- who may reach what ---------------------------------------------------------------------------------------------


class Door:
    """Calls with a pass, as restic makes them."""

    def __init__(self, web: str, machine: Machine, pass_: str | None = None, owner: Any = None) -> None:
        self.machine = machine
        given = pass_ or passes.issue(machine=machine.id, owner=machine.id, rental=machine.rental_id)
        self.client = httpx.Client(
            base_url=f"{web}/api/agent/machine/repository/{owner or machine.id}/", auth=("machine", given), timeout=30
        )

    def __call__(self, method: str, name: str, content: bytes | None = None, **headers: str) -> httpx.Response:
        return self.client.request(method, name, content=content, headers=headers)


@pytest.fixture
def door(kept: Disk, web: str) -> Iterator[Door]:
    made = Door(web, _again(kept.machine))
    gateway.repository_of(made.machine, services.settings_of(made.machine.organization_id)).ensure()
    yield made
    made.client.close()


def _again(machine: Machine) -> Machine:
    machine.refresh_from_db()
    return machine


def _named(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_machine_reads_adds_and_removes_locks_alone(door: Door) -> None:
    pack = os.urandom(300_000)
    name = _named(pack)
    assert door("GET", "config").status_code == 200
    assert door("POST", f"data/{name}", pack).status_code == 200
    assert door("HEAD", f"data/{name}").headers["content-length"] == "300000"
    assert door("GET", f"data/{name}").content == pack
    part = door("GET", f"data/{name}", Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, pack[10:20])
    assert door("HEAD", f"data/{NAME}").status_code == 404
    listed = door("GET", "data/", Accept="application/vnd.x.restic.rest.v2").json()
    assert {"name": name, "size": 300_000} in listed
    assert door("POST", f"locks/{NAME}", b"lock").status_code == 200
    assert door("DELETE", f"locks/{NAME}").status_code == 200
    refused = [
        ("DELETE", f"data/{name}"), ("DELETE", f"snapshots/{NAME}"), ("DELETE", f"index/{NAME}"), ("DELETE", "config"),
        ("DELETE", f"keys/{NAME}"), ("POST", "config"), ("POST", f"keys/{NAME}"), ("POST", "data/x"), ("DELETE", "locks/"),
        ("GET", "data"), ("GET", "other/"), ("GET", f"data/{NAME[:-1]}"), ("GET", f"data/{NAME}/x"),
        ("GET", "%2e%2e/config"), ("GET", f"data/..%2f..%2f{NAME}"), ("GET", "data/../config%00"), ("POST", f"locks/%2e%2e/data/{NAME}"),
    ]  # fmt: skip
    for method, path in refused:
        assert door(method, path, b"x" if method == "POST" else None).status_code in (403, 404), (method, path)
    assert door("PUT", f"data/{NAME}", b"x").status_code == 405
    assert door("POST", "?create=true").status_code == 404
    # another content under a name that is taken changes nothing; the same again is no error
    assert door("POST", f"data/{name}", b"other").status_code == 200
    assert door("GET", f"data/{name}").content == pack
    assert door("POST", f"data/{name}", pack).status_code == 200


def test_what_is_too_large_or_of_no_length_is_refused_unread(door: Door, web: str) -> None:
    assert door("POST", f"locks/{NAME}", b"x" * 70_000).status_code == 413
    address = web.removeprefix("http://").split(":")
    head = f"POST /api/agent/machine/repository/{door.machine.id}/data/{NAME} HTTP/1.1\r\nHost: localhost\r\n"
    head += (
        f"Authorization: {door.client.build_request('GET', 'config').headers.get('Authorization') or _basic(door)}\r\n"
    )
    for more, status in (
        (f"Content-Length: {10**9}\r\n", b" 413 "),
        ("Transfer-Encoding: chunked\r\n", b" 411 "),
    ):
        with socket.create_connection((address[0], int(address[1])), 10) as line:
            line.sendall(f"{head}{more}\r\n".encode())
            assert status in line.recv(200)


def _basic(door: Door) -> str:
    request = next(door.client.auth.auth_flow(door.client.build_request("GET", "config")))  # type: ignore[union-attr]
    return str(request.headers["Authorization"])


def test_a_damaged_file_left_by_a_killed_server_is_sent_anew(door: Door, nas: Path) -> None:
    pack = os.urandom(400_000)
    name = _named(pack)
    place = nas / "fleet/curfew" / str(door.machine.id) / "data" / name[:2] / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(pack[:100_000])
    assert door("POST", f"data/{name}", pack).status_code == 503
    assert door("POST", f"data/{name}", pack).status_code == 200
    assert place.read_bytes() == pack


def test_a_pass_is_for_one_machine_one_order_and_a_while(
    kept: Disk, web: str, door: Door, deploy: Callable[..., Machine], mallory: Persona, alice: Persona
) -> None:
    machine, other = door.machine, deploy("gale")
    kept.fleet.until_done()
    _again(other)
    repository = f"{web}/api/agent/machine/repository/{machine.id}/config"
    assert httpx.get(repository).status_code == 401
    assert httpx.get(repository, headers={"Authorization": "Basic !!!"}).status_code == 401
    assert httpx.get(repository, auth=("machine", "made-up")).status_code == 403

    def answer(pass_: str, owner: Any = None) -> int:
        return Door(web, machine, pass_, owner)("GET", "config").status_code

    def issue(**changed: Any) -> str:
        return passes.issue(**{"machine": machine.id, "owner": machine.id, "rental": machine.rental_id, **changed})

    assert answer(issue()) == 200
    assert answer(issue(machine=other.id, owner=other.id, rental=other.rental_id)) == 403
    assert answer(issue(), owner=other.id) == 403
    assert answer(issue(machine=other.id, rental=other.rental_id)) == 403  # signed, yet not the owner's
    assert answer(issue(rental=uuid4())) == 403
    assert answer(issue(operation=uuid4())) == 403
    assert answer(issue(owner=uuid4()), owner=uuid4()) == 403
    old = issue()
    kept.fleet.time.go(passes.LIFETIME_SECONDS + 1)
    assert answer(old) == 403
    running = services.request_snapshot(actor=alice.actor, machine_id=machine.id)
    bound = issue(operation=running.id)
    assert answer(bound) == 200
    kept.fleet.until_done()
    assert answer(bound) == 403
    good = issue()
    services.change_settings(actor=alice.actor, storage="local")
    assert answer(good) == 403
    assert mallory.organization.id != machine.organization_id


def test_one_machine_cannot_keep_others_or_pages_waiting(door: Door, web: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads, and many uploads that say they are long and send nothing."""
    monkeypatch.setattr(passing, "WAIT_SECONDS", 0.5)
    host, port = web.removeprefix("http://").split(":")
    lines = []
    try:
        for n in range(passing.MOST_OF_ONE + 4):
            line = socket.create_connection((host, int(port)), 10)
            lines.append(line)
            head = f"POST /api/agent/machine/repository/{door.machine.id}/data/{n:064x} HTTP/1.1\r\nHost: localhost\r\n"
            line.sendall(f"{head}Authorization: {_basic(door)}\r\nContent-Length: 1000000\r\n\r\nx".encode())
        with ThreadPoolExecutor(6) as pool:  # the uploads never end: a page that waited for one would not come
            pages = list(pool.map(lambda n: httpx.get(f"{web}/healthz", timeout=15).status_code, range(12)))
        assert set(pages) == {200}
        assert door("GET", "config").status_code == 503  # its own doors are taken: it is told to come again
        end = time.monotonic() + 10
        while len(answered := select.select(lines, [], [], 1)[0]) < 4 and time.monotonic() < end:
            time.sleep(0.1)
        assert len(answered) == 4
        assert all(b" 503 " in line.recv(100) for line in answered)
    finally:
        for line in lines:
            line.close()
    end = time.monotonic() + 10
    while door("GET", "config").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_pass_is_refused_when_its_standby_is_no_more(kept: Disk, door: Door, deploy: Callable[..., Machine]) -> None:
    spare = deploy("spare")
    kept.fleet.until_done()
    Machine.objects.all_orgs().filter(id=spare.id).update(is_spare=True)
    _again(spare)
    given = passes.issue(machine=spare.id, owner=door.machine.id, rental=spare.rental_id)
    import base64

    text = base64.b64encode(f"machine:{given}".encode()).decode()
    with pytest.raises(Forbidden):
        services.admit(authorization=f"Basic {text}", owner_id=door.machine.id)


# --- the process ----------------------------------------------------------------------------------------------------


def _gone(pid: int, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_nothing_is_left_of_rclone_when_its_server_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom gpu_fleet.providers import rclone\n"
        "s = rclone.served('x', rclone.parse(sys.argv[1], '', [sys.argv[2]]))\ns.address()\nprint(s.pid, flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, alias(tmp_path / "nas"), str(tmp_path / "nas")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert not _gone(pid, 0.2)
    child.kill()
    child.wait()
    assert _gone(pid)


def test_it_ends_when_nobody_asks_and_starts_again_when_somebody_does(
    nas: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rclone, "IDLE_SECONDS", 0.4)
    monkeypatch.setattr(rclone, "LOOK_SECONDS", 0.1)
    remote = rclone.parse(alias(nas), "", [str(nas)])
    first = rclone.served("x", remote)
    assert first.address().url.startswith("http://127.0.0.1:")
    pid = first.pid
    assert pid is not None
    first.used(1)
    time.sleep(0.8)
    assert first.alive  # somebody is inside
    assert rclone.served("x", remote) is first
    first.used(-1)
    assert _gone(pid)
    second = rclone.served("x", remote)
    assert second is not first
    assert second.address()
    other = rclone.served("x", rclone.parse(alias(nas / "b"), "", [str(nas)]))
    assert other is not second
    assert _gone(second.pid or 0)


def test_it_asks_for_its_own_password(nas: Path) -> None:
    address = rclone.served("x", rclone.parse(alias(nas), "", [str(nas)])).address()
    assert httpx.get(f"{address.url}/config").status_code == 401


def test_the_command_line_and_files_of_rclone_hold_no_secret(nas: Path) -> None:
    server = rclone.served("x", rclone.parse(f"{alias(nas)}description = s3cr3t", "", [str(nas)]))
    server.address()
    assert b"s3cr3t" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()


def test_times_of_passes_follow_the_clock() -> None:
    told = passes.read(passes.issue(machine=uuid4(), owner=uuid4(), rental=uuid4()))
    assert told is not None
    assert abs(told.until - clock.now() - timedelta(seconds=passes.LIFETIME_SECONDS)) < timedelta(seconds=2)
    assert passes.read("x.y.z") is None
