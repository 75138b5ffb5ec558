"""Real containers on a real engine, watched by a real agent: bytes, kills, cancels, limits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.dockerd import IMAGE, DockerEngine, DockerUnavailable
from tests.live.processes import wait_for
from tests.live.server import Embedded
from tests.taskrunner.live import LiveWorker

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.slow]
SLOWLY = (
    "i=0; while [ $i -lt 300 ]; do echo line $i; echo oops $i >&2; i=$((i+1)); [ $((i%10)) = 0 ] && sleep 0.1; done"
)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveWorker]:
    try:
        with DockerEngine() as engine, Embedded() as curfew:
            engine.busybox()
            made = LiveWorker(curfew, curfew.member("Anvil", "alice@anvil.test"), engine, tmp_path_factory.mktemp("w"))
            made.start()
            yield made
            made.end()
    except DockerUnavailable as reason:
        pytest.skip(f"Docker cannot run here: {reason}")


def lines(word: str) -> bytes:
    return "".join(f"{word} {n}\n" for n in range(300)).encode()


def test_every_byte_of_both_streams(worker: LiveWorker) -> None:
    long = 40_000  # longer than the 16 KiB at which Docker parts a line
    script = (
        "seq 1 3000; seq 5000 6000 >&2; "
        f"head -c {long} /dev/zero | tr '\\0' 'x'; echo; printf 'bad \\377\\376 bytes\\n'; printf 'no newline at the end'"
    )
    task = worker.submit(script)
    ended = worker.ended(task)
    assert (ended["status"], ended["exit_code"], ended["attempt"], ended["reason"]) == (
        "succeeded",
        0,
        1,
        "Ended well.",
    )
    out, err = dockers_own(worker.engine, script)
    assert b"\n3000\n" + b"x" * long in out
    assert out.endswith(b"bad \xff\xfe bytes\nno newline at the end")
    assert (worker.stored(task, "stdout"), worker.stored(task, "stderr")) == (out, err)


def dockers_own(engine: DockerEngine, script: str) -> tuple[bytes, bytes]:
    """What Docker's own log holds of the same container: its driver drops the newline of a line over 16 KiB."""
    client = engine.client()
    try:
        made = client.containers.run(
            IMAGE, ["sh", "-c", script], detach=True, network_mode="host", log_config={"Type": "local", "Config": {}}
        )
        made.wait(timeout=60)
        found = made.logs(stdout=True, stderr=False), made.logs(stdout=False, stderr=True)
        made.remove(force=True)
        return found
    finally:
        client.close()


def test_the_agent_is_killed_while_a_container_prints(worker: LiveWorker) -> None:
    task = worker.submit(SLOWLY)
    wait_for(lambda: len(worker.stored(task, "stdout")) > 200, what="the log begins", seconds=60)
    worker.kill9()
    worker.start()
    ended = worker.ended(task)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert (worker.stored(task, "stdout"), worker.stored(task, "stderr")) == (lines("line"), lines("oops"))


def test_the_platform_is_killed_while_a_container_prints(worker: LiveWorker) -> None:
    task = worker.submit(SLOWLY)
    wait_for(lambda: len(worker.stored(task, "stdout")) > 200, what="the log begins", seconds=60)
    worker.curfew.kill9()
    worker.curfew.restart()
    ended = worker.ended(task)
    assert (ended["status"], ended["attempt"]) == ("succeeded", 1)
    assert (worker.stored(task, "stdout"), worker.stored(task, "stderr")) == (lines("line"), lines("oops"))


def test_a_cancelled_task_keeps_its_last_line(worker: LiveWorker) -> None:
    task = worker.submit("trap 'echo last words; exit 0' TERM; echo ready; while true; do sleep 0.1; done")
    wait_for(lambda: worker.stored(task, "stdout") == b"ready\n", what="it is ready", seconds=60)
    assert worker.api.post(f"/api/tasks/{task}/cancel").status_code == 202
    assert worker.ended(task)["status"] == "cancelled"
    assert worker.stored(task, "stdout") == b"ready\nlast words\n"


def test_ends_have_their_class_and_words(worker: LiveWorker) -> None:
    failed = worker.submit("exit 3")
    late = worker.submit("sleep 60", timeout_seconds=1)
    missing = worker.submit("true", image="registry.invalid/no/such:1")
    forks = worker.submit("i=0; while [ $i -lt 700 ]; do sleep 5 & i=$((i+1)); done; wait", memory=256)
    facts = [worker.ended(task) for task in (failed, late, missing, forks)]
    assert [(f["status"], f["exit_class"]) for f in facts[:3]] == [
        ("failed", "error"),
        ("failed", "timeout"),
        ("failed", "image"),
    ]
    assert facts[0]["exit_code"] == 3
    assert facts[3]["status"] == "failed"  # the fork that is one too many fails inside its container
    assert "registry.invalid" in facts[2]["reason"]
