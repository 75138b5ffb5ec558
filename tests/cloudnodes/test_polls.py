"""One poll per account however many look; none waits for another; failures are told and postponed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from accounts.models import CloudAccount
from cloudnodes import services, tasks, viewing
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.providers.base import InstanceState
from core.errors import Forbidden
from core.providers import AuthenticationFailed, Throttled, Unreachable
from tests.cloudnodes.cloud import MemoryCloud
from tests.cloudnodes.conftest import Time, Worker
from tests.cloudnodes.test_observe import fresh
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.integration]
S = InstanceState


def tick() -> int:
    """What beat does every two seconds, with workers that are always free."""
    due = services.due_accounts()
    for account_id in due:
        services.poll_account(account_id=account_id)
    return len(due)


def polls_in(time: Time, seconds: int) -> int:
    count = 0
    for _ in range(seconds // 2):
        time.go(2)
        count += tick()
    return count


def test_two_five_sixty(node: CloudNode, cloud: MemoryCloud, time: Time, olga: Persona) -> None:
    tick()
    assert polls_in(time, 600) == 10
    viewing.touch(olga.organization.id)
    # beat ticks every two seconds, so every five is every six
    assert 9 <= polls_in(time, 60) <= 12
    viewing.cache.clear()
    cloud.boot = 9000
    services.request_start(actor=olga.actor, node_id=node.id)
    assert polls_in(time, 60) == 30


def test_two_hundred_viewers_are_one_poll(
    node: CloudNode, cloud: MemoryCloud, time: Time, olga: Persona, client_of: Callable
) -> None:
    tick()
    calls = cloud.calls["describe"]
    browser = client_of(olga)
    for _ in range(6):
        time.go(2)
        for _ in range(34):
            assert browser.get("/cloud-nodes/").status_code == 200
        tick()
    # 204 looks in twelve seconds
    assert cloud.calls["describe"] - calls == 2


def test_hundred_nodes_are_one_call(account: CloudAccount, cloud: MemoryCloud, scan: Callable, time: Time) -> None:
    for number in range(100):
        cloud.add(f"i-{number}")
    scan()
    calls = cloud.calls["describe"]
    time.go(100)
    assert tick() == 1
    assert cloud.calls["describe"] - calls == 1


def test_a_poll_is_claimed_once(node: CloudNode, time: Time) -> None:
    time.go(100)
    claimed = [len(services.due_accounts()) for _ in range(10)]
    assert claimed == [1, *[0] * 9]
    time.go(119)
    assert services.due_accounts() == []
    time.go(2)
    assert len(services.due_accounts()) == 1


def test_poll_sees_what_others_did(node: CloudNode, cloud: MemoryCloud, time: Time, published: list) -> None:
    cloud.put("i-1", S.RUNNING)
    published.clear()
    time.go(60)
    tick()
    assert fresh(node).observed_state == "awake"
    assert ("nodes", [str(node.id)]) in [(m["topic"], m["ids"]) for _, m in published]


def test_network_failure_backs_off_and_is_told_once(
    node: CloudNode, cloud: MemoryCloud, time: Time, published: list
) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(60)
    tick()
    cloud.fail["describe"] = [Unreachable() for _ in range(50)]
    published.clear()
    assert polls_in(time, 200) <= 5
    poll = AccountPoll.objects.all_orgs().get()
    assert (poll.error_code, poll.failures >= 3) == ("unreachable", True)
    assert poll.next_step == f"{Unreachable().next_step} Curfew asks again by itself."
    assert fresh(node).observed_state == "lost"
    assert node.account.__class__.objects.all_orgs().get().status == "active"
    assert len([m for _, m in published if m["topic"] == "nodes"]) <= 4
    cloud.fail.clear()
    assert polls_in(time, 400) >= 1
    poll.refresh_from_db()
    assert (poll.failures, poll.error, poll.next_step, poll.retry_at) == (0, "", "", None)
    assert fresh(node).observed_state == "awake"


def test_one_hiccup_changes_no_state(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(60)
    tick()
    cloud.fail["describe"] = [Unreachable()]
    time.go(60)
    tick()
    assert fresh(node).observed_state == "awake"
    time.go(6)
    assert tick() == 1


def test_refused_credentials_show_on_the_account_and_heal(node: CloudNode, cloud: MemoryCloud, time: Time) -> None:
    cloud.put("i-1", S.RUNNING)
    time.go(60)
    tick()
    cloud.fail["describe"] = [AuthenticationFailed(), AuthenticationFailed()]
    time.go(60)
    tick()
    account = CloudAccount.objects.all_orgs().get()
    assert (account.status, account.status_reason) == ("error", "The provider did not accept the credentials.")
    assert AccountPoll.objects.all_orgs().get().next_step == AuthenticationFailed().next_step
    assert fresh(node).observed_state == "lost"
    time.go(30)
    assert tick() == 0
    time.go(40)
    tick()
    time.go(200)
    tick()
    account.refresh_from_db()
    assert (account.status, fresh(node).observed_state) == ("active", "awake")


def test_throttling_is_obeyed(node: CloudNode, cloud: MemoryCloud, time: Time, olga: Persona) -> None:
    viewing.touch(olga.organization.id)
    time.go(60)
    cloud.fail["describe"] = [Throttled(retry_after=90)]
    viewing.touch(olga.organization.id)
    tick()
    assert polls_in(time, 88) == 0
    time.go(4)
    assert tick() == 1


def test_refresh_asks_at_once_and_not_twice(
    node: CloudNode, cloud: MemoryCloud, time: Time, bob: Persona, mallory: Persona, sent_tasks: list
) -> None:
    time.go(3)
    AccountPoll.objects.all_orgs().update(retry_at=time.now + timedelta(hours=1))
    assert services.request_refresh(actor=mallory.actor) == 0
    assert services.request_refresh(actor=bob.actor) == 1
    assert services.request_refresh(actor=bob.actor) == 0
    assert sent_tasks == [("cloudnodes.poll_account", {"account_id": str(node.account_id)})]
    services.poll_account(account_id=node.account_id)
    assert fresh(node).observed_at == time.now


def test_refresh_needs_the_right(node: CloudNode, olga: Persona) -> None:
    from dataclasses import replace

    with pytest.raises(Forbidden):
        services.request_refresh(actor=replace(olga.actor, permissions=frozenset()))


def test_every_account_gets_its_own_message(
    node: CloudNode, alice: Persona, cloud: MemoryCloud, time: Time, monkeypatch: pytest.MonkeyPatch, worker: Worker
) -> None:
    """A provider that hangs holds one worker for its own account; the others were handed out in the same tick."""
    second = make_account(alice.organization, number="444455556666")
    cloud.add("i-9")
    services.sync_discovered(account=second, instances=[cloud.machines["i-9"].instance], at=time.now)
    sent: list[str] = []
    monkeypatch.setattr(
        tasks.current_app, "send_task", lambda name, kwargs, queue: sent.append((name, kwargs["account_id"]))
    )
    time.go(60)
    assert tasks.poll() == 2
    assert sorted(sent) == sorted([("cloudnodes.poll_account", str(a)) for a in (node.account_id, second.id)])
    time.go(60)  # neither came back: both hang
    third = make_account(alice.organization, number="777788889999")
    services.sync_discovered(account=third, instances=[cloud.add("i-10").instance], at=time.now)
    time.go(2)
    assert tasks.poll() == 1


def test_gone_account_is_nobodys_poll(node: CloudNode) -> None:
    node.account.delete()
    assert services.poll_account(account_id=node.account_id) == 0
    assert services.due_accounts() == []
