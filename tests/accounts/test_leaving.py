"""Taking one's data along, deleting oneself, closing an organization."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.test import Client

from accounts import selectors, services
from accounts.models import CloudAccount, Membership, Organization, User
from audit.models import AuditEntry
from core import clock, sleepable
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.sleepable import SleepState
from hibernation import services as hibernation
from hibernation.models import Schedule
from hibernation.schedule import PRESETS
from notifications import services as notifications
from notifications.models import Channel
from operations import closing, personal_export, runner
from operations.models import Operation
from tests.dashboard.conftest import Lamps
from tests.personas import PASSWORD, Persona, make_account, make_person

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _files(settings: Any, tmp_path: Any) -> None:
    settings.MEDIA_ROOT = tmp_path


@pytest.fixture
def lamps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lamps]:
    kind = Lamps()
    monkeypatch.setattr(sleepable, "_kinds", {kind.kind: kind})
    return kind


def fresh(persona: Persona) -> Client:
    """A browser that has just shown once more that it is still them."""
    browser = Client()
    browser.post("/login", {"login": persona.email, "password": PASSWORD})
    browser.post("/account/reauthenticate/", {"password": PASSWORD})
    return browser


class TestExport:
    def test_it_holds_what_is_ours_and_nobody_elses_and_no_secret(
        self, alice: Persona, bob: Persona, client_of: Any
    ) -> None:
        services.create_api_key(actor=alice.actor, name="Farm", scopes=["nodes.view"])
        services.update_profile(actor=bob.actor, user=bob.user, name="Bob the other")
        notifications.save_preference(actor=alice.actor, enabled=True)
        notifications.notify(actor=alice.actor, event="operation.failed", subject="For Alice")
        browser = client_of(alice)
        browser.post("/settings/my-data/export")
        operation = Operation.objects.for_org(alice.organization).get(kind=personal_export.KIND)
        assert runner.run_operation(operation.id) == "succeeded"
        assert "Download" in browser.get("/settings/my-data").content.decode()
        answer = browser.get(f"/settings/my-data/{operation.id}/download")
        archive = zipfile.ZipFile(io.BytesIO(answer.getvalue()))
        rows = {
            name.removesuffix(".jsonl"): [json.loads(line) for line in archive.read(name).splitlines()]
            for name in archive.namelist()
            if name.endswith(".jsonl")
        }
        assert [p["email"] for p in rows["profile"]] == [alice.email]
        assert [(m["organization__name"], m["role"]) for m in rows["memberships"]] == [("Larkspur", "owner")]
        assert [k["name"] for k in rows["api_keys_made"]] == ["Farm"]
        assert [m["subject"] for m in rows["messages"]] == ["For Alice"]
        assert "api_key.created" in {e["verb"] for e in rows["audit"]}
        everything = b"".join(archive.read(name) for name in archive.namelist())
        assert b"Bob the other" not in everything
        assert alice.user.password.encode() not in everything
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.data_fetched").exists()

    def test_only_the_person_fetches_it_and_for_a_week(self, alice: Persona, bob: Persona, client_of: Any) -> None:
        operation = personal_export.request_export(actor=alice.actor)
        with pytest.raises(Conflict):
            personal_export.request_export(actor=alice.actor)
        runner.run_operation(operation.id)
        assert client_of(bob).get(f"/settings/my-data/{operation.id}/download").status_code == 404
        with clock.at(clock.now() + timedelta(days=8)):
            with pytest.raises(NotFound):
                personal_export.fetch(actor=alice.actor, operation_id=operation.id)
            assert personal_export.clear_old() == 1

    def test_killed_in_the_middle_it_is_written_anew(self, alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
        operation = personal_export.request_export(actor=alice.actor)
        whole = personal_export._write

        def dies(archive: Any, name: str, rows: Any) -> int:
            if name == "sessions":
                raise KeyboardInterrupt
            return whole(archive, name, rows)

        monkeypatch.setattr(personal_export, "_write", dies)
        with pytest.raises(KeyboardInterrupt):
            runner.run_operation(operation.id)
        assert not personal_export.path_of(operation).exists()
        monkeypatch.setattr(personal_export, "_write", whole)
        with clock.at(clock.now() + timedelta(minutes=10)):
            runner.reap_expired()
            assert runner.run_operation(operation.id) == "succeeded"
        assert zipfile.ZipFile(personal_export.path_of(operation)).testzip() is None


class TestDeletingOneself:
    def test_everything_of_theirs_goes_and_the_log_stays(self, alice: Persona, bob: Persona, mallory: Persona) -> None:
        Membership.objects.for_org(mallory.organization).create(
            organization=mallory.organization, user=bob.user, role="admin"
        )
        caller = selectors.caller_for(bob.user)
        assert caller is not None
        pair = services.issue_tokens(caller=caller)
        path = personal_export.path_of(Operation(id=uuid4(), resource_id=bob.user.pk))
        path.parent.mkdir(parents=True)
        path.write_bytes(b"zip")
        browser = fresh(bob)
        assert "Type <b" in browser.get("/settings/my-data/delete-me").content.decode()
        assert browser.post("/settings/my-data/delete-me", {"confirm_email": "no"}).status_code == 422
        gone = browser.post("/settings/my-data/delete-me", {"confirm_email": bob.email})
        assert gone["Location"] == "/login"
        assert not User.objects.filter(pk=bob.user.pk).exists()
        assert not path.exists()
        assert selectors.actor_of_access_token(pair.access) is None
        assert browser.get("/settings/").status_code == 302
        for house in (alice.organization, mallory.organization):
            line = AuditEntry.objects.for_org(house).get(verb="user.deleted")
            assert (line.actor_label, line.target_label) == ("Bob", bob.email)

    def test_an_organization_is_not_left_without_an_owner(self, alice: Persona, bob: Persona) -> None:
        browser = fresh(alice)
        assert "last owner of Larkspur" in browser.get("/settings/my-data/delete-me").content.decode()
        with pytest.raises(Conflict):
            services.delete_person(user=alice.user, typed_email=alice.email, facts={})
        make_person("orla", alice.organization, "owner")
        services.delete_person(user=alice.user, typed_email=alice.email, facts={})
        assert not User.objects.filter(pk=alice.user.pk).exists()

    def test_an_old_log_in_is_asked_once_more(self, bob: Persona, client_of: Any) -> None:
        assert client_of(bob).get("/settings/my-data/delete-me")["Location"].startswith("/account/reauthenticate/")


class TestClosing:
    def fill(self, alice: Persona) -> None:
        make_account(alice.organization, credentials="sealed")
        hibernation.save_schedule(
            actor=alice.actor, name="Nights", zone="UTC", grid=PRESETS["office_hours"].grid.to_json()
        )
        notifications.add_channel(actor=alice.actor, name="mail", kind="email", addresses=["a@larkspur.test"])
        services.create_api_key(actor=alice.actor, name="Farm", scopes=["nodes.view"])
        services.create_enrolment_token(actor=alice.actor, kind="worker", name="Rack")

    def test_it_names_what_it_touches_wakes_first_and_ends(self, alice: Persona, bob: Persona, lamps: Lamps) -> None:
        self.fill(alice)
        asleep = lamps.add(alice, "Night lamp", "asleep", "2.00")
        lamps.add(alice, "Day lamp", "awake")
        _, link = services.invite(actor=alice.actor, email="nina@elsewhere.test", role="viewer")
        browser = fresh(alice)
        page = browser.get("/settings/organization/close").content.decode()
        for words in (
            "1 asleep",
            "Night lamp",
            "1 awake",
            "credentials of 1 cloud account are",
            "2 people lose",
            "1 API key and 1 agent token",
        ):
            assert words in page, words
        wrong = browser.post("/settings/organization/close", {"confirm_name": "larkspur", "sleepers": "wake"})
        assert wrong.status_code == 422
        browser.post("/settings/organization/close", {"confirm_name": "Larkspur", "sleepers": "wake"})
        operation = Operation.objects.for_org(alice.organization).get(kind=closing.KIND)
        assert runner.run_operation(operation.id) == "again"
        assert [(verb, which) for verb, which, *_ in lamps.asked] == [("wake", asleep.id)]
        assert not Schedule.objects.for_org(alice.organization).get().enabled
        assert CloudAccount.objects.for_org(alice.organization).exists()  # not before everything is awake
        lamps.rows[asleep.id] = replace(asleep, state=SleepState.AWAKE)
        with clock.at(clock.now() + timedelta(seconds=10)):
            assert runner.run_operation(operation.id) == "succeeded"
        house = Organization.objects.get(pk=alice.organization.pk)
        assert house.closed_at is not None
        assert not Membership.objects.for_org(house).exists()
        assert not CloudAccount.objects.for_org(house).exists()
        assert not Channel.objects.for_org(house).exists()
        assert browser.get("/settings/").status_code == 403
        assert Client().get("/invitations/" + link.rpartition("/")[2]).status_code == 404
        line = AuditEntry.objects.for_org(house).get(verb="organization.closed")
        assert line.detail == "members: 2, API keys: 1, agents: 1, invitations: 1."
        assert fresh(alice).get("/settings/my-data/delete-me").status_code == 200  # who is left alone can still go

    def test_what_cannot_be_woken_stops_it_and_leaving_asleep_is_a_choice(
        self, alice: Persona, lamps: Lamps, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lamps.add(alice, "Night lamp", "asleep")

        def refuses(*args: object, **kwargs: object) -> None:
            raise Forbidden("The bulb is gone.")

        monkeypatch.setattr(lamps, "request_wake", refuses)
        operation = closing.request_close(actor=alice.actor, typed_name="Larkspur", wake=True)
        assert runner.run_operation(operation.id) == "failed"
        operation.refresh_from_db()
        assert (operation.error_code, "Night lamp: The bulb is gone." in operation.error) == ("not_woken", True)
        assert Membership.objects.for_org(alice.organization).exists()
        again = closing.request_close(actor=alice.actor, typed_name="Larkspur", wake=False)
        assert runner.run_operation(again.id) == "succeeded"
        assert not Membership.objects.for_org(alice.organization).exists()

    def test_only_an_owner_and_only_by_name(self, alice: Persona, bob: Persona, mallory: Persona) -> None:
        adam = make_person("adam", alice.organization, "admin")
        with pytest.raises(Forbidden):
            closing.request_close(actor=adam.actor, typed_name="Larkspur", wake=False)
        with pytest.raises(InvalidInput):
            closing.request_close(actor=mallory.actor, typed_name="Larkspur", wake=False)
