"""What is sent in bad faith: names, images, lines and progress that are made to hurt."""

from __future__ import annotations

import time as wall
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from core.errors import InvalidInput
from taskrunner import progressing, selectors, services
from taskrunner.models import LogPiece, LogStream, Task, Worker
from taskrunner.services import logging as storing
from tests.personas import Persona

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
NASTY = ["\x00", "\x07", "\x1b[31mred", "a\r\nb", "\u202eevil", "\u2028", "\x7f", "\ud800"]


@pytest.mark.parametrize("field", ["name", "description"])
@pytest.mark.parametrize("text", NASTY)
def test_names_with_control_characters_are_refused(alice: Persona, field: str, text: str) -> None:
    fields = {"name": "build", "image": "busybox:1", field: f"a{text}b"}
    if field == "description" and text == "\n":
        return
    with pytest.raises(InvalidInput) as refused:
        services.submit(actor=alice.actor, fields=fields)
    assert list(refused.value.errors) == [field]


@pytest.mark.parametrize("text", ["\x00", "\x1b]0;title\x07", "a\nb", "\u202e"])
def test_a_workers_name_is_cleaned(join: Callable[..., Worker], text: str) -> None:
    worker = join(name=f"an{text}vil", hostname=f"h{text}ost", gpu_model=f"T{text}4")
    assert (worker.name + worker.hostname + worker.gpu_model).isprintable()


@pytest.mark.parametrize(
    "image", ["busybox; rm -rf /", "../../etc", "a b", "Ubuntu", "x:" + "t" * 129, "$(id)", "-v", "a\nb"]
)
def test_images_outside_the_grammar_never_reach_a_worker(api_of: Any, alice: Persona, image: str) -> None:
    answer = api_of(alice).post("/api/tasks", {"name": "x", "image": image}, format="json")
    assert (answer.status_code, list(answer.json()["errors"])) == (422, ["image"])


@pytest.mark.parametrize("image", ["busybox", "r.io:443/a/b-c__d.e:T_1.x-", "[2001:db8::1]:5000/x@sha256:" + "0" * 64])
def test_images_of_the_grammar_reach_it_as_they_are(
    submit: Callable[..., Task], join: Callable[..., Worker], image: str
) -> None:
    submit(image=image)
    claim = services.claim(worker=join())
    assert claim is not None
    assert claim.task.image == image


@pytest.fixture
def running(join: Callable[..., Worker], submit: Callable[..., Task]) -> Callable[[int, bytes], int]:
    """`running(offset, data)` appends to the log of a task that runs."""
    worker, task = join(), submit()
    services.claim(worker=worker)
    services.start(worker=worker, task_id=task.id, fence=1)

    def append(offset: int, data: bytes) -> int:
        return services.append_log(worker=worker, task_id=task.id, fence=1, stream="stdout", offset=offset, data=data)

    return append


def test_a_line_without_end_is_kept_whole_and_shown_in_bounded_pieces(
    running: Callable[[int, bytes], int], client_of: Callable[[Persona], Client], alice: Persona
) -> None:
    """64 MiB here stand for a gigabyte: it comes in calls of at most 4 MiB, and no piece is larger than 256 KiB."""
    body, offset = b"x" * storing.LARGEST_BODY, 0
    for _ in range(16):
        offset = running(offset, body)
    log = LogStream.objects.get()
    assert (log.stdout, log.stored) == (2**26, 2**26)
    pieces = LogPiece.objects.values_list("size", "lines")
    assert max(size for size, _ in pieces) <= storing.LARGEST_PIECE
    task = Task.objects.all_orgs().get()
    view = selectors.log_lines(attempt=selectors.attempt_of(task), first=0, count=2000)
    assert max(len(line.text) for line in view.lines) <= selectors.logs.LONGEST_LINE
    answer = client_of(alice).get(f"/api/tasks/{task.id}/logs?first=0&count=2000")
    assert len(answer.content) < 2000 * (selectors.logs.LONGEST_LINE + 200)


def test_a_log_beyond_the_limit_is_cut_and_says_so(
    running: Callable[[int, bytes], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storing, "LARGEST_LOG", 1000)
    assert running(0, b"a" * 900) == 900
    assert running(900, b"b" * 900) == 1800  # the worker goes on
    log = LogStream.objects.get()
    assert (log.stored, log.stdout, log.truncated_at is not None) == (900, 1800, True)


@pytest.mark.parametrize(
    "data",
    [
        b"9" * 4_000_000,
        b"9" * 4_000_000 + b"%",
        b"1." * 2_000_000,
        b"{" + b'"progress"' * 400_000,
        b"::progress " * 300_000,
    ],
)
def test_progress_is_read_in_bounded_time(data: bytes) -> None:
    began = wall.process_time()
    progressing.read(data)
    assert wall.process_time() - began < 0.5


@pytest.mark.parametrize("pattern", [r"(a+)+$", r"(a|aa)+$", r"(.*)*x", r"^(\w+\s?)*$"])
def test_no_expression_takes_exponential_time(running: Callable[[int, bytes], int], pattern: str) -> None:
    running(0, (b"a" * 5000 + b"!\n") * 20)
    task = Task.objects.all_orgs().get()
    began = wall.process_time()
    selectors.search_log(attempt=selectors.attempt_of(task), wanted=pattern, regex=True)
    assert wall.process_time() - began < 2


def test_what_a_container_prints_is_never_markup(
    running: Callable[[int, bytes], int], client_of: Callable[[Persona], Client], alice: Persona
) -> None:
    running(0, b"</script><script>alert(1)</script>\n\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\\n")
    task = Task.objects.all_orgs().get()
    page = client_of(alice).get(f"/tasks/{task.id}/").text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert 'href="javascript' not in page
