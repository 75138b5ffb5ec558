"""One server per data folder and port, also after kill -9."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launcher import paths, runlock

HOLD = """
import sys, time
from pathlib import Path
from launcher.runlock import RunLock
with RunLock(Path(sys.argv[1]), port=8123):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(data: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(data)], stdout=subprocess.PIPE, text=True, cwd=paths.ROOT
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=10)


def test_a_second_server_on_the_folder_is_refused_with_the_first_ones_address(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(runlock.FolderInUse, match=f"process {process.pid}, http://localhost:8123"):
            runlock.RunLock(tmp_path).acquire()
        owner = runlock.owner_of(tmp_path)
        assert owner is not None
        assert (owner["pid"], owner["port"]) == (process.pid, 8123)
    finally:
        end(process)


def test_a_lock_left_by_kill_9_is_taken_over(tmp_path: Path) -> None:
    end(holder(tmp_path))
    assert (tmp_path / runlock.FILE_NAME).read_text() != ""
    assert runlock.owner_of(tmp_path) is None
    with runlock.RunLock(tmp_path, port=1):
        assert json.loads((tmp_path / runlock.FILE_NAME).read_text())["pid"] == os.getpid()


def test_the_same_process_id_with_another_start_time_is_somebody_else(tmp_path: Path) -> None:
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        stale = {"pid": sleeper.pid, "started": "ticks:1", "port": 8000}
        (tmp_path / runlock.FILE_NAME).write_text(json.dumps(stale))
        with runlock.RunLock(tmp_path):
            pass
    finally:
        sleeper.kill()
        sleeper.wait(10)


def test_without_file_locks_the_recorded_process_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runlock, "_refused", lambda file: False)
    process = holder(tmp_path)
    try:
        with pytest.raises(runlock.FolderInUse):
            runlock.RunLock(tmp_path).acquire()
    finally:
        end(process)
    with runlock.RunLock(tmp_path):
        pass


def test_release_lets_the_next_one_in_and_may_be_repeated(tmp_path: Path) -> None:
    lock = runlock.RunLock(tmp_path)
    lock.acquire()
    lock.release()
    lock.release()
    assert runlock.owner_of(tmp_path) is None
    with runlock.RunLock(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "not json", "[]", '{"pid": "x"}', '{"pid": 999999999, "started": "ticks:5"}'])
def test_a_damaged_lock_file_does_not_lock_anybody_out(tmp_path: Path, content: str) -> None:
    (tmp_path / runlock.FILE_NAME).write_text(content)
    with runlock.RunLock(tmp_path):
        pass


def test_start_time_tells_live_processes_from_dead_ones() -> None:
    assert runlock.process_started(os.getpid()) == runlock.process_started(os.getpid())
    ended = subprocess.Popen(["true"])
    deadline = time.monotonic() + 10
    while runlock.process_started(ended.pid) is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert runlock.process_started(ended.pid) is None, "a zombie does not run"
    ended.wait(10)
    assert runlock.process_started(ended.pid) is None


def test_a_taken_port_is_named_with_the_next_free_one() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(runlock.PortTaken, match=rf"Port {port} on 127.0.0.1 is already in use") as caught:
            runlock.bind("127.0.0.1", port)
        free = caught.value.free
        assert free is not None
        assert free > port
        runlock.bind("127.0.0.1", free).close()


def test_a_bound_port_is_ours_until_closed() -> None:
    port = runlock.bind_only("127.0.0.1", 0)
    listening = runlock.bind("127.0.0.1", port)
    with pytest.raises(runlock.PortTaken):
        runlock.bind("127.0.0.1", port)
    listening.close()
    runlock.bind("127.0.0.1", port).close()
