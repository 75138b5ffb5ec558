"""Judging whether a node works: a model of its true work against what is judged from looks; nothing busy is ever idle."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudnodes import activity
from cloudnodes.activity import Judgement, Look, judge, plan
from cloudnodes.providers.metrics import Reading, parse

T0 = datetime(2026, 3, 18, 9, tzinfo=UTC)
STEP = timedelta(seconds=activity.SAMPLE_SECONDS)

# what happens between two looks: nothing, a short request that ends before the look, a long one, no answer, a restart
HAPPENINGS = st.sampled_from(["nothing"] * 6 + ["request", "long", "silent", "restart", "pause", "gpu", "run"])


def replay(happenings: list[str], cpu: bool) -> list[tuple[datetime, str, Judgement]]:
    """Look after each happening; returns (time, happening, judgement)."""
    at, done, used = T0, 5.0, 100.0
    before: Reading | None = None
    before_at: datetime | None = None
    idle: datetime | None = None
    began, found = T0, []
    for what in happenings:
        at += STEP * (8 if what == "pause" else 1)
        done = 0.0 if what == "restart" else done + (1 if what in ("request", "pause") else 0)
        used = 0.1 if what == "restart" else used + (20 if what in ("request", "long", "pause") else 0.01)
        began = at if what == "restart" else began
        running = 1.0 if what == "long" else 0.0
        gpu = 80.0 if what == "gpu" else 0.0
        reading = (
            Reading(cpu_seconds=used)
            if cpu
            else Reading(running=running, done=done, gpu_percent=gpu, began=began.timestamp())
        )
        look = Look(at, None if what == "silent" else reading, runs=int(what == "run"))
        verdict = judge(look, before=before, before_at=before_at, idle_since=idle, began=began, touched_at=None)
        before, before_at, idle = look.reading, at, verdict.idle_since
        found.append((at, what, verdict))
    return found


@settings(max_examples=300, deadline=None)
@given(st.lists(HAPPENINGS, max_size=40), st.booleans())
def test_idle_is_claimed_only_for_time_in_which_nothing_happened(happenings: list[str], cpu: bool) -> None:
    last_sign = T0
    for at, what, verdict in replay(happenings, cpu):
        harmless = what == "nothing" or (cpu and what == "gpu")
        if not harmless:
            last_sign = at
        if verdict.verdict == activity.IDLE:
            assert harmless or what in ("pause", "restart")
            assert verdict.idle_since is not None
            assert verdict.idle_since >= last_sign or at == last_sign
        else:
            assert verdict.idle_since is None


def test_quiet_nodes_are_found_idle_from_the_second_look_on() -> None:
    looks = replay(["nothing"] * 10, cpu=False)
    assert [v.verdict for _, _, v in looks] == ["unknown"] + ["idle"] * 9
    assert looks[-1][2].idle_since == looks[1][0]


def test_what_tells_nothing_is_never_idle() -> None:
    facts = {"before": None, "before_at": None, "idle_since": None, "began": T0, "touched_at": None}
    assert judge(Look(T0, None), **facts).verdict == "unknown"
    assert judge(Look(T0, Reading(running=0.0)), **facts).verdict == "unknown"  # short requests would go unseen


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 600),
    st.integers(0, 120),
    st.one_of(st.none(), st.integers(0, 900)),
    st.one_of(st.none(), st.integers(0, 900)),
)
def test_a_stop_never_comes_without_its_warning(idle: int, warn: int, keep: int | None, warned: int | None) -> None:
    keep_until = None if keep is None else T0 + timedelta(minutes=keep)
    warned_at = None if warned is None else T0 + timedelta(minutes=warned)
    found = plan(idle_since=T0, idle_minutes=idle, warn_minutes=warn, keep_until=keep_until, warned_at=warned_at)
    assert found.warn_at is not None
    assert found.stop_at is not None
    assert found.stop_at >= T0 + timedelta(minutes=idle)
    assert keep_until is None or found.stop_at >= keep_until
    assert found.stop_at - found.warn_at >= timedelta(0)
    if warned_at is not None and warned_at >= found.warn_at:
        assert found.stop_at - warned_at >= timedelta(minutes=min(warn, idle))


def test_nim_vllm_triton_and_dcgm_text() -> None:
    text = """
# HELP vllm:num_requests_running Number of requests
vllm:num_requests_running{model="a"} 2.0
vllm:num_requests_waiting{model="a"} 1
request_success_total{finished_reason="stop"} 40
request_success_total{finished_reason="length"} 2
http_requests_total{handler="/v1/infer",status="2xx"} 7
http_requests_total{handler="/v1/health/ready"} 9999
http_requests_total{handler="/v1/metrics"} 500
prompt_tokens_total 1200
nv_gpu_utilization{gpu_uuid="x"} 0.4
DCGM_FI_DEV_GPU_UTIL{gpu="0"} 12
DCGM_FI_DEV_GPU_UTIL{gpu="1"} NaN
garbage here
"""
    found = parse(text)
    assert (found.running, found.done, found.gpu_percent, found.tokens) == (3, 49, 40, {"prompt_tokens": 1200})
    assert Reading.from_json(found.to_json()) == found


@given(st.text(max_size=400))
def test_no_text_breaks_the_reader(text: str) -> None:
    parse(text)


@pytest.mark.parametrize(
    "url", ["", "ftp://x/y", "http://", "http://169.254.169.254/latest", "http://[::1", "tcp://h:1"]
)
def test_addresses_that_are_never_asked(url: str) -> None:
    from cloudnodes.providers.metrics import read

    assert read(url) is None
