"""What this app keeps about a person, for their export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession

from accounts.models import ApiKey, Invitation, Membership, User
from audit.models import AuditEntry

Section = tuple[str, Iterator[Mapping[str, Any]]]
_AUDIT = ("at", "verb", "target_kind", "target_id", "target_label", "outcome", "changes", "detail", "ip", "user_agent")


def sections(*, user: User) -> list[Section]:
    """Name and rows of each file; read while it is written."""
    mine = Membership.objects.all_orgs().filter(user=user)
    houses = list(mine.values_list("organization_id", flat=True))
    actions = AuditEntry.objects.all_orgs().filter(organization_id__in=houses, actor_kind="user", actor_id=str(user.pk))
    return [
        ("profile", iter([_profile(user)])),
        ("memberships", mine.values("organization__name", "role", "created_at").iterator()),
        ("email_addresses", EmailAddress.objects.filter(user=user).values("email", "verified", "primary").iterator()),
        (
            "sessions",
            UserSession.objects.filter(user=user).values("ip", "user_agent", "created_at", "last_seen_at").iterator(),
        ),
        (
            "second_factors",
            Authenticator.objects.filter(user=user).values("type", "created_at", "last_used_at").iterator(),
        ),
        (
            "single_sign_on",
            SocialAccount.objects.filter(user=user).values("provider", "uid", "date_joined", "extra_data").iterator(),
        ),
        (
            "api_keys_made",
            ApiKey.objects.all_orgs()
            .filter(created_by=user)
            .values("name", "prefix", "scopes", "created_at", "revoked_at")
            .iterator(),
        ),
        (
            "invitations_received",
            Invitation.objects.all_orgs()
            .filter(email__iexact=user.email)
            .values("organization__name", "role", "created_at", "accepted_at")
            .iterator(),
        ),
        (
            "invitations_sent",
            Invitation.objects.all_orgs()
            .filter(invited_by=user)
            .values("email", "role", "created_at", "accepted_at")
            .iterator(),
        ),
        ("audit", actions.order_by("at", "seq").values("organization__name", *_AUDIT).iterator(chunk_size=2000)),
    ]


def _profile(user: User) -> dict[str, Any]:
    names = ("id", "email", "name", "timezone", "theme", "created_at", "last_login", "wizard_closed_at")
    return {name: getattr(user, name) for name in names}
