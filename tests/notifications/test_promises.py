"""Every kind of event that people can choose is really told of by somebody."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from accounts import services as accounts
from accounts.models import Membership
from core import clock
from notifications import events, selectors, services
from notifications.forms import PreferenceForm
from notifications.models import Delivery
from notifications.services import notifying
from operations import runner
from operations import services as operations
from operations.enums import Status
from tests.personas import Persona, make_account

ROOT = Path(__file__).resolve().parents[2]
APPS = (
    "accounts",
    "audit",
    "cloudnodes",
    "clusters",
    "costs",
    "gpu_fleet",
    "hibernation",
    "operations",
    "notifications",
    "taskrunner",
)


def test_each_registered_event_has_a_sender() -> None:
    sources = [
        p.read_text() for app in APPS for p in (ROOT / app).rglob("*.py") if p.name not in ("events.py", "apps.py")
    ]
    told = set(re.findall(r"event=\"([a-z_.]+)\"", "\n".join(sources)))
    told |= {name for name in (e.name for e in events.all_events()) if f'"{name}"' in "\n".join(sources)}
    assert {e.name for e in events.all_events()} - told == set()


@pytest.fixture
def heard(alice: Persona) -> list[str]:
    services.save_preference(actor=alice.actor, enabled=True)
    return []


def subjects(alice: Persona) -> list[tuple[str, str]]:
    rows = Delivery.objects.for_org(alice.organization).order_by("created_at", "id")
    return list(rows.values_list("event", "subject"))


@pytest.mark.django_db
def test_roles_keys_and_passwords(alice: Persona, bob: Persona, heard: list[str]) -> None:
    member = Membership.objects.for_org(alice.organization).get(user=bob.user)
    accounts.change_role(actor=alice.actor, membership_id=member.id, role="admin")
    accounts.create_api_key(actor=alice.actor, name="Farm", scopes=["nodes.view"])
    accounts.password_changed(user=bob.user, facts={})
    assert sorted(subjects(alice)) == [
        ("security.changed", "Alice made Bob admin (was viewer)"),
        ("security.changed", "Alice made the API key Farm with 1 permission"),
        ("security.changed", "Bob has a new password"),
    ]


@pytest.mark.django_db
def test_a_failed_operation_once_and_a_broken_account(alice: Persona, heard: list[str]) -> None:
    account = make_account(alice.organization)
    operation = operations.request_operation(
        actor=alice.actor,
        kind="package.build",
        resource_kind="package",
        resource_id=account.id,
        resource_label="FLUX Dev",
    )
    operations.finish(operation, Status.FAILED, error="The disk is full.", tell_executor=False)
    assert not operations.finish(operation, Status.FAILED, error="again", tell_executor=False)
    accounts.mark_scanning(account=account)
    accounts.mark_scan_failed(account=account, reason="The key is wrong.")
    accounts.mark_scan_failed(account=account, reason="The key is wrong.")
    assert subjects(alice) == [
        ("operation.failed", "FLUX Dev: Build install package failed"),
        ("account.error", "The cloud account Larkspur aws cannot be read"),
    ]
    with clock.at(clock.now() + timedelta(seconds=1)):
        assert runner.due() == []


def test_what_the_page_shows_as_chosen_is_what_is_told() -> None:
    for chosen in ([], ["task.failed"], ["operation.failed", "security.changed"]):
        for wish in selectors.wishes(emails=chosen, pushes=[]):
            kind = next(e for e in events.all_events() if e.name == wish.name)
            assert wish.by_email == notifying._wants(kind, chosen), wish.name
            assert wish.by_push == notifying._wants(kind, []), wish.name


def test_ticking_every_kind_asks_for_single_tasks_too() -> None:
    names = [e.name for e in events.all_events() if e.name != "notifications.test"]
    for ticked in (names, [name for name in names if not events.get(name).asked], ["task.failed"]):
        form = PreferenceForm({"enabled": "on", "events": ticked, "digest_minutes": "0"})
        assert form.is_valid()
        kept = form.facts()["events"]
        assert [n for n in names if notifying._wants(events.get(n), kept)] == ticked
