"""Connecting: asked before stored, claimed once, the placeholder filled in, no secret anywhere."""

from __future__ import annotations

import json
import logging
import threading
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, connections

from accounts import services, vault
from accounts.models import CloudAccount
from audit.models import AuditEntry
from core import encryption, hooks
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.providers import AuthenticationFailed, ProviderError, Unreachable
from operations.models import Operation
from tests.accounts.conftest import KEYS, PLANTED, FakeCloud
from tests.personas import Persona, make_account, make_organization, make_person

ROLE = {"aws_account_id": "1234-5678-9012"}


def placeholder(persona: Persona) -> CloudAccount:
    return CloudAccount.objects.for_org(persona.organization).create(
        organization=persona.organization, provider="aws", name="AWS account"
    )


def by_keys(persona: Persona, **more: object) -> CloudAccount:
    asked = {"provider": "aws", "method": "keys", "region": "us-east-1", "values": KEYS, **more}
    return services.connect_account(actor=persona.actor, **asked)


def entries(persona: Persona, verb: str) -> list[AuditEntry]:
    return list(AuditEntry.objects.for_org(persona.organization).filter(verb=verb))


def test_the_placeholder_is_filled_in_and_scanned(alice: Persona, cloud: FakeCloud) -> None:
    waiting = placeholder(alice)
    row = by_keys(alice, name="Lab")
    assert row.id == waiting.id
    assert (row.name, row.number, row.method, row.status) == ("Lab", "123456789012", "keys", "scanning")
    assert CloudAccount.objects.for_org(alice.organization).count() == 1
    assert Operation.objects.for_org(alice.organization).filter(kind="account.scan", resource_id=row.id).count() == 1
    assert [e.outcome for e in entries(alice, "cloud_account.connected")] == ["success"]
    alice.user.refresh_from_db()
    assert alice.user.wizard_closed_at is not None


def test_the_placeholder_takes_any_provider(alice: Persona, cloud: FakeCloud) -> None:
    waiting = placeholder(alice)
    cloud.numbers[""] = "studio-render"
    key = {"service_account_json": json.dumps({"type": "service_account", "private_key": PLANTED})}
    row = services.connect_account(actor=alice.actor, provider="gcp", method="service_account", values=key)
    assert (row.id, row.provider, row.region) == (waiting.id, "gcp", "us-central1")


def test_a_second_account_is_a_second_row(alice: Persona, cloud: FakeCloud) -> None:
    placeholder(alice)
    first = by_keys(alice)
    second = by_keys(alice, values={**KEYS, "access_key_id": "AKIASECONDKEY0000002"})
    assert first.id != second.id
    assert {first.name, second.name} == {"alias-1234", "alias-2222"}


def test_nothing_is_in_a_transaction_while_the_cloud_is_asked(transactional_db: None, cloud: FakeCloud) -> None:
    alice = make_person("alice", make_organization("Larkspur"), "owner")
    seen: list[bool] = []
    cloud.during = lambda: seen.append(connection.in_atomic_block)
    by_keys(alice)
    assert seen == [False]


def test_secrets_are_sealed_for_their_row_and_open_again(alice: Persona, cloud: FakeCloud) -> None:
    row = by_keys(alice)
    assert PLANTED not in row.credentials
    assert vault.credentials_of(row).get("secret_access_key") == PLANTED
    other = make_account(alice.organization, number="555566667777", credentials=row.credentials)
    with pytest.raises(AuthenticationFailed) as refused:
        vault.credentials_of(other)
    assert refused.value.code == "credentials_unreadable"


def test_no_secret_leaves_a_trace(alice: Persona, cloud: FakeCloud, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with pytest.raises(AuthenticationFailed) as refused:
        by_keys(alice, values={**KEYS, "access_key_id": "AKIAUNKNOWNKEY000003"})
    by_keys(alice)
    said = [str(refused.value), refused.value.detail, repr(refused.value.to_dict()), caplog.text]
    said += [repr(v) for e in AuditEntry.objects.all_orgs() for v in vars(e).values()]
    said += [repr(v) for a in CloudAccount.objects.all_orgs() for v in vars(a).values()]
    said += [repr(v) for o in Operation.objects.all_orgs() for v in vars(o).values()]
    assert not [text for text in said if PLANTED in text or KEYS["access_key_id"] in text]


def test_a_refusal_is_audited_and_stores_nothing(alice: Persona, cloud: FakeCloud) -> None:
    waiting = placeholder(alice)
    cloud.error = AuthenticationFailed("The security token included in the request is invalid.", code="wrong_keys")
    with pytest.raises(AuthenticationFailed):
        by_keys(alice, name="Lab")
    waiting.refresh_from_db()
    assert (waiting.status, waiting.number, waiting.credentials) == ("pending", "", "")
    failed = entries(alice, "cloud_account.connect_failed")
    assert [(e.outcome, e.target_label) for e in failed] == [("failed", "Lab")]
    assert "wrong_keys" in failed[0].detail


def test_another_organization_cannot_claim_the_same_account(alice: Persona, mallory: Persona, cloud: FakeCloud) -> None:
    by_keys(alice)
    with pytest.raises(Conflict) as refused:
        by_keys(mallory)
    assert refused.value.code == "claimed"
    assert "Larkspur" not in refused.value.message
    assert CloudAccount.objects.for_org(mallory.organization).count() == 0
    assert len(entries(mallory, "cloud_account.connect_failed")) == 1


def test_the_same_organization_is_told_which_row_it_is(alice: Persona, cloud: FakeCloud) -> None:
    row = by_keys(alice, name="Lab")
    with pytest.raises(Conflict) as refused:
        by_keys(alice)
    assert (refused.value.code, refused.value.extra) == ("already_connected", {"account": str(row.id)})


def test_the_unique_constraint_reads_like_the_check(
    alice: Persona, mallory: Persona, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_keys(alice)
    monkeypatch.setattr("accounts.services.connecting._refuse_taken", lambda *args: None)
    with pytest.raises(Conflict) as refused:
        by_keys(mallory)
    assert refused.value.code == "claimed"


@pytest.mark.pg
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor == "sqlite", reason="the test database is in memory; PostgreSQL runs this")
def test_of_two_organizations_at_once_exactly_one_wins(cloud: FakeCloud) -> None:
    people = [make_person("ada", make_organization(name), "owner") for name in ("Larkspur", "Harbour")]
    both_asked = threading.Barrier(2, timeout=20)
    cloud.during = both_asked.wait
    results: list[str] = []

    def run(person: Persona) -> None:
        try:
            results.append(by_keys(person).status)
        except Conflict as refused:
            results.append(refused.code)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(p,)) for p in people]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(results) == ["claimed", "scanning"]
    assert CloudAccount.objects.all_orgs().filter(number="123456789012").count() == 1


@pytest.mark.parametrize(
    "target", ["accounts.models.CloudAccount.save", "audit.models.AuditEntry.save", "operations.models.Operation.save"]
)
def test_a_failure_at_any_write_leaves_the_placeholder(
    target: str, alice: Persona, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting = placeholder(alice)

    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("disk full")

    with monkeypatch.context() as patched:
        patched.setattr(target, fail)
        with pytest.raises(DatabaseError):
            by_keys(alice)
    waiting.refresh_from_db()
    assert (waiting.status, waiting.number, waiting.credentials, waiting.method) == ("pending", "", "", "")
    assert not Operation.objects.all_orgs().exists()


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"provider": "ibm"}, "provider"),
        ({"method": "telepathy"}, "method"),
        ({"region": "mars-east-1"}, "region"),
        ({"values": {**KEYS, "aws_account_id": "12345678901x"}}, "aws_account_id"),
        ({"values": {**KEYS, "aws_account_id": "1234"}}, "aws_account_id"),
        ({"values": {"access_key_id": "AKIAPLANTEDKEY000001"}}, "secret_access_key"),
        ({"values": {**KEYS, "secret_access_key": "x" * 401}}, "secret_access_key"),
        ({"name": "n" * 121}, "name"),
        ({"provider": "gcp", "method": "service_account", "region": "", "values": {"service_account_json": '{"half":'}}, "service_account_json"),
        ({"provider": "azure", "method": "service_principal", "values": {"tenant_id": "t", "client_id": "nope", "client_secret": "s", "subscription_id": "x"}}, "client_id"),
    ],
)  # fmt: skip
def test_a_wrong_shape_is_refused_before_anybody_is_asked(
    asked: dict, field: str, alice: Persona, cloud: FakeCloud
) -> None:
    with pytest.raises(InvalidInput) as refused:
        by_keys(alice, **asked)
    assert field in refused.value.errors
    assert PLANTED not in str(refused.value.errors)
    assert cloud.asked == []


def test_digits_may_come_with_dashes(alice: Persona, cloud: FakeCloud) -> None:
    by_keys(alice, values={**KEYS, "aws_account_id": "1234-5678-9012"})
    assert cloud.asked[0].get("aws_account_id") == "123456789012"


def test_a_viewer_may_not(bob: Persona, cloud: FakeCloud) -> None:
    with pytest.raises(Forbidden):
        by_keys(bob)
    assert cloud.asked == []


def test_the_local_socket_is_for_operators_of_the_server(alice: Persona, cloud: FakeCloud) -> None:
    with pytest.raises(Forbidden):
        services.connect_account(
            actor=alice.actor, provider="docker", method="local", values={"socket": "/var/run/docker.sock"}
        )


def test_endpoints_never_come_from_a_tenant(alice: Persona, cloud: FakeCloud) -> None:
    row = by_keys(
        alice,
        values={**KEYS, "endpoint": "http://evil.test", "endpoints": "http://evil.test", "aws": "http://evil.test"},
    )
    assert dict(cloud.asked[0].endpoints) == {}
    assert row.endpoint == ""


class TestByRole:
    def test_preparing_again_gives_the_same_external_id(self, alice: Persona, platform_account: str) -> None:
        waiting = placeholder(alice)
        first = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="us-east-1")
        again = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="eu-west-1")
        assert first.external_id == again.external_id
        assert first.account.id == again.account.id == waiting.id
        assert first.role_arn == "arn:aws:iam::123456789012:role/CurfewAccess"
        assert "region=eu-west-1" in again.launch_url
        assert platform_account in again.launch_url

    def test_preparing_reserves_no_number(
        self, alice: Persona, mallory: Persona, cloud: FakeCloud, platform_account: str
    ) -> None:
        services.prepare_role(actor=mallory.actor, aws_account_id="123456789012", region="us-east-1")
        assert by_keys(alice).number == "123456789012"

    def test_two_organizations_get_two_external_ids(
        self, alice: Persona, mallory: Persona, platform_account: str
    ) -> None:
        ids = {
            services.prepare_role(actor=p.actor, aws_account_id="123456789012", region="us-east-1").external_id
            for p in (alice, mallory)
        }
        assert len(ids) == 2

    def test_connecting_fills_in_the_prepared_row(
        self, alice: Persona, cloud: FakeCloud, platform_account: str
    ) -> None:
        setup = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="us-east-1")
        row = by_keys(alice, method="role", values=ROLE)
        assert row.id == setup.account.id
        assert (row.method, row.external_id) == ("role", setup.external_id)
        asked = cloud.asked[0]
        assert (asked.get("external_id"), asked.get("role_arn")) == (setup.external_id, setup.role_arn)

    def test_an_external_id_of_somebody_else_is_refused(
        self, alice: Persona, mallory: Persona, cloud: FakeCloud, platform_account: str
    ) -> None:
        theirs = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="us-east-1").external_id
        for given in (theirs, str(uuid4()), ""):
            with pytest.raises(InvalidInput) as refused:
                by_keys(mallory, method="role", values={**ROLE, "external_id": given})
            assert "external_id" in refused.value.errors
        assert cloud.asked == []

    def test_verify_connects_what_was_prepared(self, alice: Persona, cloud: FakeCloud, platform_account: str) -> None:
        setup = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="us-east-1")
        row = services.verify_account(actor=alice.actor, account_id=setup.account.id)
        assert (row.status, row.method) == ("scanning", "role")

    @pytest.mark.parametrize(
        ("number", "region", "field"),
        [
            ("12345", "us-east-1", "aws_account_id"),
            ("x" * 12, "us-east-1", "aws_account_id"),
            ("123456789012", "mars-1", "region"),
        ],
    )
    def test_a_wrong_shape_names_its_field(
        self, number: str, region: str, field: str, alice: Persona, platform_account: str
    ) -> None:
        with pytest.raises(InvalidInput) as refused:
            services.prepare_role(actor=alice.actor, aws_account_id=number, region=region)
        assert list(refused.value.errors) == [field]

    def test_a_foreign_row_is_not_there(self, alice: Persona, mallory: Persona, platform_account: str) -> None:
        foreign = placeholder(mallory)
        with pytest.raises(NotFound):
            services.prepare_role(
                actor=alice.actor, aws_account_id="123456789012", region="us-east-1", account_id=foreign.id
            )


class TestAgain:
    def test_new_credentials_for_the_same_account(self, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice, name="Lab")
        cloud.numbers["AKIAFRESHKEY00000004"] = "123456789012"
        again = services.reconnect(
            actor=alice.actor,
            account_id=row.id,
            values={"access_key_id": "AKIAFRESHKEY00000004", "secret_access_key": PLANTED},
        )
        assert (again.id, again.name) == (row.id, "Lab")
        assert vault.credentials_of(again).get("access_key_id") == "AKIAFRESHKEY00000004"

    def test_credentials_of_another_account_are_refused(self, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice)
        with pytest.raises(InvalidInput) as refused:
            services.reconnect(
                actor=alice.actor, account_id=row.id, values={**KEYS, "access_key_id": "AKIASECONDKEY0000002"}
            )
        assert refused.value.code == "wrong_account"
        row.refresh_from_db()
        assert row.number == "123456789012"

    def test_a_foreign_row_is_not_there(self, mallory: Persona, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice)
        for call in (
            lambda: services.reconnect(actor=mallory.actor, account_id=row.id, values=KEYS),
            lambda: services.connect_account(
                actor=mallory.actor, provider="aws", method="keys", values=KEYS, account_id=row.id
            ),
            lambda: services.verify_account(actor=mallory.actor, account_id=row.id),
            lambda: services.resync_account(actor=mallory.actor, account_id=row.id),
            lambda: services.rename_account(actor=mallory.actor, account_id=row.id, name="Mine"),
            lambda: services.disconnect_account(actor=mallory.actor, account_id=row.id),
        ):
            with pytest.raises(NotFound):
                call()


class TestAfterwards:
    def test_a_final_refusal_shows_on_the_account_and_a_good_answer_mends_it(
        self, alice: Persona, cloud: FakeCloud
    ) -> None:
        row = by_keys(alice)
        services.mark_scanned(account=row, found={"instances": 3})
        Operation.objects.for_org(alice.organization).update(status="succeeded")
        cloud.error = AuthenticationFailed("The key was revoked.", code="wrong_keys", next_step="Make a new key.")
        with pytest.raises(ProviderError):
            services.verify_account(actor=alice.actor, account_id=row.id)
        row.refresh_from_db()
        assert (row.status, row.status_reason, row.next_step) == ("error", "The key was revoked.", "Make a new key.")
        cloud.error = None
        services.verify_account(actor=alice.actor, account_id=row.id)
        row.refresh_from_db()
        assert (row.status, row.status_reason) == ("scanning", "")

    def test_a_transient_refusal_changes_nothing(self, alice: Persona, cloud: FakeCloud) -> None:
        row = make_account(alice.organization, credentials="")
        row.credentials = encryption.seal(KEYS, bound_to=row.seal_name)
        row.save(update_fields=["credentials"])
        cloud.error = Unreachable("No route.")
        with pytest.raises(Unreachable):
            services.verify_account(actor=alice.actor, account_id=row.id)
        row.refresh_from_db()
        assert row.status == "active"

    def test_scans_move_it_as_the_table_says(self, alice: Persona) -> None:
        row = make_account(alice.organization, status="pending")
        assert not services.mark_scanned(account=row, found={})
        assert services.mark_scanning(account=row)
        assert services.mark_scanning(account=row)
        assert services.mark_scanned(account=row, found={"instances": 2})
        row.refresh_from_db()
        assert (row.status, row.found) == ("active", {"instances": 2})
        assert row.scanned_at is not None
        assert services.mark_scan_failed(account=row, reason="The key was revoked.", next_step="Make a new one.")
        row.refresh_from_db()
        assert (row.status, row.status_reason, row.found) == ("error", "The key was revoked.", {"instances": 2})
        verbs = list(AuditEntry.objects.for_org(alice.organization).order_by("seq").values_list("verb", flat=True))
        assert verbs == ["cloud_account.scan_started", "cloud_account.scanned", "cloud_account.scan_failed"]

    def test_a_scan_of_a_gone_account_changes_nothing(self, alice: Persona) -> None:
        row = make_account(alice.organization)
        CloudAccount.objects.for_org(alice.organization).filter(id=row.id).delete()
        assert not services.mark_scanning(account=row)

    def test_resync_orders_one_scan_and_returns_the_one_under_way(self, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice)
        _, first = services.resync_account(actor=alice.actor, account_id=row.id)
        _, again = services.resync_account(actor=alice.actor, account_id=row.id)
        assert first.id == again.id
        assert Operation.objects.for_org(alice.organization).count() == 1

    def test_disconnecting_forgets_it_after_everybody_was_asked(self, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice)
        told: list[object] = []

        def listen(*, actor: object, account: CloudAccount) -> None:
            told.append(account.id)

        hooks.cloud_account_disconnecting.subscribe(listen)
        try:
            services.disconnect_account(actor=alice.actor, account_id=row.id)
        finally:
            hooks.cloud_account_disconnecting._subscribers.remove(listen)
        assert told == [row.id]
        assert not CloudAccount.objects.for_org(alice.organization).exists()
        assert len(entries(alice, "cloud_account.disconnected")) == 1
        assert by_keys(alice).number == "123456789012"

    def test_a_subscriber_may_refuse(self, alice: Persona, cloud: FakeCloud) -> None:
        row = by_keys(alice)

        def refuse(*, actor: object, account: CloudAccount) -> None:
            raise Conflict("A node is starting.")

        hooks.cloud_account_disconnecting.subscribe(refuse)
        try:
            with pytest.raises(Conflict):
                services.disconnect_account(actor=alice.actor, account_id=row.id)
        finally:
            hooks.cloud_account_disconnecting._subscribers.remove(refuse)
        assert CloudAccount.objects.for_org(alice.organization).filter(id=row.id).exists()
        assert entries(alice, "cloud_account.disconnected") == []

    def test_the_confirmation_names_what_was_found(self, alice: Persona) -> None:
        row = make_account(alice.organization, found={"instances": 12, "groups": 0})
        effects = services.disconnect_effects(actor=alice.actor, account=row)
        assert any("12 instances" in words for words in effects)
        assert not any("groups" in words for words in effects)
