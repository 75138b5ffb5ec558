"""Each check of the doctor, right and wrong."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from core import doctor
from core.doctor import Level
from launcher import keys, paths

RING = "k1:" + base64.b64encode(bytes(range(32))).decode()
GOOD_KEYS = {"CURFEW_SECRET_KEY": "s" * 50, "CURFEW_JWT_KEY": "j" * 40, "CURFEW_ENCRYPTION_KEYS": RING}


def levels(findings: list[doctor.Finding]) -> list[Level]:
    return [finding.level for finding in findings]


@pytest.mark.parametrize(
    ("version", "ensurepip", "ready", "level", "fix"),
    [
        ((3, 11, 0), True, False, Level.OK, ""),
        ((3, 10, 9), True, False, Level.FAIL, "Install Python 3.11 or newer"),
        ((3, 12, 1), False, False, Level.FAIL, "sudo apt install python3.12-venv"),
        ((3, 12, 1), False, True, Level.OK, ""),
    ],
)
def test_python(version: tuple[int, int, int], ensurepip: bool, ready: bool, level: Level, fix: str) -> None:
    finding = doctor.check_python(version, ensurepip=ensurepip, venv_ready=ready)
    assert (finding.level, finding.fix) == (level, fix)


@pytest.mark.parametrize(("gib", "level"), [(0.4, Level.FAIL), (1.5, Level.WARN), (2.5, Level.OK)])
def test_disk(gib: float, level: Level) -> None:
    assert doctor.check_disk(Path("/x"), int(gib * 1024**3)).level is level


def test_port_taken_names_a_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = doctor.check_port("127.0.0.1", port, ours=False)
        assert finding.level is Level.FAIL
        assert int(finding.fix.removeprefix("Use --port ")) > port
        assert doctor.check_port("127.0.0.1", port, ours=True).level is Level.OK
    assert doctor.check_port("127.0.0.1", port, ours=False).level is Level.OK


def test_docker(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    assert "Install Docker" in doctor.check_docker(path, doctor.ask_docker(path)).fix
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(str(path))
        engine.listen()

        def answer() -> None:
            client, _ = engine.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK")

        threading.Thread(target=answer, daemon=True).start()
        assert doctor.check_docker(path, doctor.ask_docker(path)).level is Level.OK
    assert "systemctl start docker" in doctor.check_docker(path, doctor.ask_docker(path)).fix
    assert "usermod -aG docker" in doctor.check_docker(path, "denied").fix


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("unix:///run/user/1000/docker.sock", Path("/run/user/1000/docker.sock")),
        ("tcp://10.0.0.4:2376", None),
        ("", Path("/var/run/docker.sock")),
    ],
)
def test_docker_socket(host: str, expected: Path | None) -> None:
    assert doctor.docker_socket({"DOCKER_HOST": host}) == expected


def test_data_folder_permissions(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert levels(doctor.check_data_folder(data, uid=os.geteuid())) == [Level.WARN]
    data.mkdir(mode=0o700)
    keys.ensure(data, defaults={}, environ={})
    assert levels(doctor.check_data_folder(data, uid=os.geteuid())) == [Level.OK]
    data.chmod(0o755)
    (data / keys.FILE_NAME).chmod(0o640)
    found = doctor.check_data_folder(data, uid=os.geteuid())
    assert [(finding.level, finding.fix) for finding in found] == [
        (Level.WARN, f"chmod 700 {data}"),
        (Level.FAIL, f"chmod 600 {data / keys.FILE_NAME}"),
    ]


def test_files_of_another_user_are_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "curfew.sqlite3").touch()
    found = doctor.check_data_folder(tmp_path, uid=os.geteuid() + 1)
    assert [finding.level for finding in found] == [Level.FAIL, Level.FAIL]
    assert all("belongs to another user" in finding.detail for finding in found)


@pytest.mark.parametrize(
    ("ring", "problem"),
    [
        (RING, ""),
        (RING + ",old:" + RING.partition(":")[2], ""),
        ("", "it holds no key"),
        ("k1:!!!", "key 'k1' is not base64"),
        ("k1:AAAA", "key 'k1' must be 32 bytes under an alphanumeric id, it has 3"),
        ("k 1:" + RING.partition(":")[2], "key 'k 1' must be 32 bytes under an alphanumeric id, it has 32"),
        (RING + "," + RING, "key id 'k1' is used twice"),
    ],
)
def test_key_ring(ring: str, problem: str) -> None:
    assert doctor.key_ring_problem(ring) == problem


def test_keys() -> None:
    assert levels(doctor.check_keys(GOOD_KEYS)) == [Level.OK]
    found = doctor.check_keys({"CURFEW_SECRET_KEY": "short", "CURFEW_BASE_URL": "curfew.example.com"})
    assert [finding.detail.split()[0].strip(":") for finding in found] == [
        "CURFEW_SECRET_KEY",
        "CURFEW_JWT_KEY",
        "CURFEW_ENCRYPTION_KEYS",
        "CURFEW_BASE_URL",
    ]
    assert set(levels(found)) == {Level.FAIL}
    assert "short" not in " ".join(finding.detail for finding in found).replace("shorter", "")
    assert levels(doctor.check_keys({**GOOD_KEYS, "CURFEW_BASE_URL": "http://curfew.example.com"})) == [Level.WARN]


def test_no_finding_shows_a_key() -> None:
    secret = "c2VjcmV0LWtleS1tYXRlcmlhbA=="
    bad = {"CURFEW_SECRET_KEY": "hunter2", "CURFEW_JWT_KEY": "hunter3", "CURFEW_ENCRYPTION_KEYS": f"k1:{secret}"}
    text = doctor.render(doctor.check_keys(bad))
    assert "hunter" not in text
    assert secret not in text


def test_clock() -> None:
    now = 1_800_000_000.0
    assert levels(doctor.check_clock(now, now - 5, {"Redis": now + 0.3})) == [Level.OK]
    assert levels(doctor.check_clock(now, now + 3600, {})) == [Level.FAIL]
    assert levels(doctor.check_clock(now, 0, {"Redis": now + 5, "PostgreSQL": now - 100})) == [Level.WARN, Level.FAIL]


def test_packages(tmp_path: Path) -> None:
    wanted = {"requirements.txt": "a"}
    good = {"requirements.txt": "a", "frontend": "f"}
    assert levels(doctor.check_packages(good, wanted, frontend="f", vendor=tmp_path)) == [Level.OK]
    assert levels(doctor.check_packages({}, wanted, frontend="f", vendor=tmp_path)) == [Level.WARN]
    old = {"requirements.txt": "b", "frontend": "g"}
    assert levels(doctor.check_packages(old, wanted, frontend="f", vendor=tmp_path)) == [Level.WARN, Level.WARN]


def test_redis_that_is_not_there() -> None:
    clocks: dict[str, float] = {}
    assert levels(doctor.check_redis("", clocks)) == [Level.OK]
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        found = doctor.check_redis(f"redis://127.0.0.1:{nobody.getsockname()[1]}/0", clocks)
    assert (levels(found), clocks) == ([Level.FAIL], {})


@pytest.mark.django_db
def test_database_of_this_run_is_well() -> None:
    clocks: dict[str, float] = {}
    found = doctor.check_database(clocks)
    assert levels(found) == [Level.OK]
    assert all(abs(theirs - time.time()) < 5 for theirs in clocks.values())


def run_doctor(*arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("CURFEW_", "DJANGO_"))}
    return subprocess.run(
        [sys.executable, "-m", "core.doctor", *arguments],
        cwd=paths.ROOT,
        env={**clean, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_command_on_an_empty_machine_changes_nothing(tmp_path: Path) -> None:
    done = run_doctor("--data", str(tmp_path / "none"), "--port", free_port(), "--json")
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert done.returncode == 0
    assert {"python", "disk", "port", "data folder", "clock"} <= {item["name"] for item in report["findings"]}
    assert not (tmp_path / "none").exists()


def test_command_fails_when_something_is_wrong_and_says_how_to_right_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / keys.FILE_NAME).write_text("CURFEW_SECRET_KEY=x\n")
    (tmp_path / keys.FILE_NAME).chmod(0o600)
    done = run_doctor("--data", str(tmp_path), "--port", free_port())
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  keys         CURFEW_ENCRYPTION_KEYS: it holds no key" in done.stdout
    assert f"-> Put {keys.FILE_NAME} back from your copy" in done.stdout
    assert "3 to put right." in done.stdout


@pytest.mark.parametrize(
    ("body", "expected"), [(b'{"status": "ok"}', True), (b"hello", False), (b'{"status": "no"}', False)]
)
def test_our_own_server_on_the_port_is_recognised(body: bytes, expected: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        def answer() -> None:
            client, _ = other.accept()
            with client:
                client.recv(1000)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

        threading.Thread(target=answer, daemon=True).start()
        assert doctor.is_curfew("127.0.0.1", other.getsockname()[1]) is expected
    assert doctor.is_curfew("127.0.0.1", int(free_port())) is False
