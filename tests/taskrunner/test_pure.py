"""The pure parts: image references, graphs, retries, progress, cutting logs, checking a submission."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskrunner import checking, graph, images, placing, progressing, retrying
from taskrunner.placing import Resources, Wish
from taskrunner.services.logging import cuts

pytestmark = pytest.mark.unit
DIGEST = "sha256:" + "a" * 64

_component = st.from_regex(r"[a-z0-9]{1,8}((\.|_|__|-{1,3})[a-z0-9]{1,5}){0,2}", fullmatch=True)
_host = st.sampled_from(
    ["", "localhost/", "localhost:5000/", "registry.example.com/", "r.io:443/", "[2001:db8::1]:5000/"]
)
_tag = st.one_of(st.just(""), st.from_regex(r":[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True))


@given(_host, st.lists(_component, min_size=1, max_size=4), _tag, st.sampled_from(["", "@" + DIGEST]))
def test_references_of_the_grammar_are_taken_and_come_back_the_same(host, path, tag, digest):
    text = f"{host}{'/'.join(path)}{tag}{digest}"
    assert str(images.parse(text)) == text
    assert re.fullmatch(images.PATTERN, text)


@pytest.mark.parametrize(
    "text",
    [
        "", "Ubuntu", "a//b", "/a", "a/", "a:", "a:-x", "a@sha256:abc", "a@sha256:" + "A" * 64, "a b", "a\nb", "https://x.io/a",
        "a___b", "a..b", "-a", "a-", "a:" + "x" * 129, "x" * 256, "f" * 64, "a@md5", "registry.example.com:port/a", "a\x00",
    ],
)  # fmt: skip
def test_what_is_outside_the_grammar_is_refused_in_words(text):
    with pytest.raises(images.BadImage) as refused:
        images.parse(text)
    assert str(refused.value).endswith((".", "tag."))


def test_a_graph_has_an_order_and_no_circle():
    assert graph.order({"c": ["a", "b"], "b": ["a"], "a": []}) == ["a", "b", "c"]
    with pytest.raises(graph.BadGraph, match="wait for each other"):
        graph.order({"a": ["b"], "b": ["a"]})
    with pytest.raises(graph.BadGraph, match="needs x"):
        graph.order({"a": ["x"]})


@given(st.integers(1, 60))
def test_pauses_grow_and_stay_below_the_limit(attempt):
    wait = retrying.pause(attempt)
    assert 9 <= wait <= 396
    assert wait >= 0.9 * min(360, 10 * 2 ** (attempt - 1))


def test_retries_follow_the_exit_class():
    facts = {"retries": 2, "retry_on": ["lost", "oom"]}
    assert [retrying.tries_again(exit_class="lost", attempt=n, **facts) for n in (1, 2, 3)] == [True, True, False]
    assert not retrying.tries_again(exit_class="error", attempt=1, **facts)


@pytest.mark.parametrize(
    ("said", "read"),
    [
        (b"epoch 1\n 41%|####\r 42.7%|####", (42, "")),
        (b"::progress 7 loading\n::progress 12 training\n99 %\n", (12, "training")),
        (b'{"progress": 55, "message": "half"}\n', (55, "half")),
        (b'{"progress": true}\n', None),
        (b"loss 0.12, 300% of nothing\n", None),
        (b"\xff\xfe no digits", None),
    ],
)
def test_progress_is_read_from_what_is_printed(said, read):
    assert progressing.read(said) == read


@given(st.binary(max_size=400), st.integers(1, 50))
def test_cuts_lose_nothing_and_prefer_newlines(data, most):
    parts = cuts(data, most)
    assert b"".join(data[a:b] for a, b in parts) == data
    assert all(0 < b - a <= most for a, b in parts)
    assert all(data[b - 1 : b] == b"\n" or b"\n" not in data[a:b] or b == len(data) for a, b in parts)


def test_a_worker_says_why_it_cannot():
    wish = Wish(Resources(2000, 512, 0, 1), {"zone": "a"})
    assert placing.misfit(wish, Resources(4000, 1024, 0, 1), {"zone": "a"}) == ""
    assert placing.misfit(wish, Resources(4000, 1024, 0, 0), {"zone": "a"}) == "offers 0 GPUs, it needs 1"
    assert placing.misfit(wish, Resources(1000, 1024, 0, 1), {"zone": "a"}) == "offers 1 cores CPU, it needs 2 cores"
    assert placing.misfit(wish, Resources(4000, 1024, 0, 1), {}) == "has no label zone=a"


def test_a_submission_names_every_wrong_field():
    with pytest.raises(checking.Wrong) as wrong:
        checking.checked(
            {
                "name": "a\x1b[31m", "image": "No", "command": ["a", 1], "cpu": 0, "memory": "1", "environment": {"1x": ""},
                "labels": {"": "a"}, "files": {"../etc/passwd": "x"}, "retry_on": ["ok"], "timeout_seconds": True, "host": 1,
            }
        )  # fmt: skip
    assert sorted(wrong.value.errors) == [
        "command", "cpu", "environment", "files", "host", "image", "labels", "memory", "name", "retry_on", "timeout_seconds",
    ]  # fmt: skip


def test_a_line_is_parted_as_a_shell_does_without_expanding():
    assert checking.command("python -c 'print(1)' $HOME") == ["python", "-c", "print(1)", "$HOME"]
    with pytest.raises(ValueError, match="parted"):
        checking.command("echo 'open")
