"""Signing up makes everything or nothing."""

from __future__ import annotations

import pytest
from django.db import DatabaseError
from django.test import override_settings

from accounts import services
from accounts.models import CloudAccount, Membership, Organization, User
from audit.models import AuditEntry
from core.errors import Forbidden, InvalidInput

GOOD = {"organization": "Larkspur", "email": "Ada@Larkspur.Test", "password": "a long walk at dusk"}


def rows() -> dict[str, int]:
    return {
        "users": User.objects.count(),
        "organizations": Organization.objects.count(),
        "memberships": Membership.objects.all_orgs().count(),
        "accounts": CloudAccount.objects.all_orgs().count(),
        "audit": AuditEntry.objects.all_orgs().count(),
    }


@pytest.mark.django_db
def test_it_makes_person_organization_ownership_and_placeholder() -> None:
    made = services.sign_up(**GOOD)
    assert rows() == {"users": 1, "organizations": 1, "memberships": 1, "accounts": 1, "audit": 1}
    assert (made.user.email, made.membership.role) == ("ada@larkspur.test", "owner")
    assert (made.account.status, made.account.method, made.account.number, made.account.organization_id) == (
        "pending", "", "", made.organization.pk,
    )  # fmt: skip
    assert AuditEntry.objects.all_orgs().get().verb == "organization.created"


@pytest.mark.django_db
def test_the_password_is_a_bcrypt_hash(settings: object) -> None:
    from config import settings as ours

    settings.PASSWORD_HASHERS = ours.PASSWORD_HASHERS
    user = services.sign_up(**GOOD).user
    assert user.password.startswith("bcrypt_sha256$")
    assert GOOD["password"] not in user.password
    assert user.check_password(GOOD["password"])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "target",
    [
        "accounts.models.User.save",
        "allauth.account.models.EmailAddress.save",
        "accounts.models.Organization.save",
        "accounts.models.Membership.save",
        "accounts.models.CloudAccount.save",
        "audit.models.AuditEntry.save",
        "audit.models.AuditHead.save",
    ],
)
def test_a_failure_at_any_write_leaves_nothing(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise DatabaseError("disk full")

    monkeypatch.setattr(target, fail)
    with pytest.raises(DatabaseError):
        services.sign_up(**GOOD)
    monkeypatch.undo()
    assert rows() == {"users": 0, "organizations": 0, "memberships": 0, "accounts": 0, "audit": 0}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"organization": "  "}, "organization"),
        ({"organization": "x" * 121}, "organization"),
        ({"email": "not an address"}, "email"),
        ({"email": "x" * 250 + "@a.test"}, "email"),
        ({"password": "short"}, "password"),
        ({"password": "password1234"}, "password"),
        ({"password": "ada@larkspur.test"}, "password"),
        ({"name": "n" * 121}, "name"),
    ],
)
def test_bad_input_names_its_field(change: dict, field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.sign_up(**{**GOOD, **change})
    assert list(refused.value.errors) == [field]
    assert rows()["users"] == 0


@pytest.mark.django_db
def test_an_address_signs_up_once_whatever_its_case() -> None:
    services.sign_up(**GOOD)
    with pytest.raises(InvalidInput) as refused:
        services.sign_up(**{**GOOD, "email": "ADA@larkspur.test"})
    assert "email" in refused.value.errors
    assert rows()["organizations"] == 1


@pytest.mark.django_db
def test_a_lost_race_for_an_address_reads_like_a_taken_one(monkeypatch: pytest.MonkeyPatch) -> None:
    services.sign_up(**GOOD)
    monkeypatch.setattr("accounts.services.signup._problems", lambda *args: {})
    with pytest.raises(InvalidInput) as refused:
        services.sign_up(**GOOD)
    assert "email" in refused.value.errors
    assert rows()["organizations"] == 1


@pytest.mark.django_db
@override_settings(CURFEW_ALLOW_SIGNUP=False)
def test_a_closed_server_takes_nobody() -> None:
    with pytest.raises(Forbidden):
        services.sign_up(**GOOD)
    assert rows()["users"] == 0
