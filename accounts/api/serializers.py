"""Shapes of requests and answers. Never a secret, never a whole account number."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from accounts.enums import AccountStatus, Method, Provider, Role
from accounts.models import CloudAccount, Membership, Organization, User
from accounts.providers.registry import PROVIDERS
from accounts.selectors import Caller


class SignupIn(serializers.Serializer):
    organization = serializers.CharField(max_length=120, help_text="Name of the new organization.")
    email = serializers.EmailField(max_length=254)
    password = serializers.CharField(
        max_length=1024, trim_whitespace=False, write_only=True, help_text="At least ten characters."
    )
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")


class LoginIn(serializers.Serializer):
    email = serializers.CharField(max_length=254)
    password = serializers.CharField(max_length=1024, trim_whitespace=False, write_only=True)
    otp = serializers.CharField(
        max_length=64,
        required=False,
        allow_blank=True,
        default="",
        help_text="Code of the authenticator app, or a recovery code.",
    )
    organization = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Which one to act in; the oldest membership otherwise."
    )


class RefreshIn(serializers.Serializer):
    refresh = serializers.CharField(max_length=4096)


class LogoutIn(serializers.Serializer):
    refresh = serializers.CharField(
        max_length=4096,
        required=False,
        allow_blank=True,
        default="",
        help_text="Ends this log-in; without it, all of the person's.",
    )


class OrganizationOut(serializers.Serializer):
    id = serializers.UUIDField()
    name = serializers.CharField()


class UserOut(serializers.Serializer):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    organization = OrganizationOut()


class TokensOut(serializers.Serializer):
    access = serializers.CharField(help_text="Bearer token, fifteen minutes.")
    refresh = serializers.CharField(help_text="Works once, fourteen days.")


class LoginOut(TokensOut):
    user = UserOut()


class PlaceholderOut(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=AccountStatus.choices)


class SignupOut(serializers.Serializer):
    user = UserOut()
    organization = OrganizationOut()
    account = PlaceholderOut()
    access = serializers.CharField(allow_null=True)
    refresh = serializers.CharField(allow_null=True)


class ProfileOrganizationOut(OrganizationOut):
    timezone = serializers.CharField()
    currency = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices)


class ProfileOut(serializers.Serializer):
    kind = serializers.ChoiceField(choices=["user", "api_key"])
    id = serializers.CharField()
    email = serializers.EmailField(allow_null=True)
    name = serializers.CharField()
    role = serializers.ChoiceField(choices=Role.choices, allow_null=True)
    organization = OrganizationOut()
    organizations = ProfileOrganizationOut(many=True)
    permissions = serializers.ListField(child=serializers.CharField())
    mfa = serializers.BooleanField(help_text="True when a second factor is set up.")
    onboarding = serializers.BooleanField(help_text="True while the first-run wizard should open.")


class MemberOut(serializers.Serializer):
    id = serializers.UUIDField(help_text="Of the membership.")
    name = serializers.CharField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    role_label = serializers.CharField()
    since = serializers.DateTimeField()
    is_me = serializers.BooleanField()


class RoleIn(serializers.Serializer):
    role = serializers.ChoiceField(choices=Role.choices)


class InvitationIn(RoleIn):
    email = serializers.EmailField(max_length=254)


class InvitationOut(serializers.Serializer):
    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=Role.choices)
    role_label = serializers.CharField()
    invited_by = serializers.CharField()
    sent = serializers.DateTimeField()
    expires = serializers.DateTimeField()
    is_over = serializers.BooleanField()


class InvitationMadeOut(InvitationOut):
    link = serializers.URLField(help_text="Joins; works once, for the invited address alone.")


class AccountOut(serializers.ModelSerializer[CloudAccount]):
    """A cloud account. `number` is masked."""

    number = serializers.CharField(source="masked_number", read_only=True)
    provider_label = serializers.CharField(source="get_provider_display", read_only=True)
    method_label = serializers.CharField(source="get_method_display", read_only=True)
    status_label = serializers.CharField(source="get_status_display", read_only=True)
    found = serializers.DictField(
        child=serializers.IntegerField(), read_only=True, help_text="What the last scan counted."
    )

    class Meta:
        model = CloudAccount
        fields = (
            "id", "provider", "provider_label", "name", "number", "region", "method", "method_label", "status", "status_label",
            "status_reason", "next_step", "is_sandbox", "found", "created_at", "connected_at", "scanned_at",
        )  # fmt: skip
        read_only_fields = fields


class AccountStatusOut(serializers.Serializer):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=AccountStatus.choices)
    status_label = serializers.CharField(source="get_status_display")
    status_reason = serializers.CharField()
    next_step = serializers.CharField()
    found = serializers.DictField(child=serializers.IntegerField())
    scanned_at = serializers.DateTimeField(allow_null=True)


class RenameIn(serializers.Serializer):
    name = serializers.CharField(max_length=120)


class RoleSetupIn(serializers.Serializer):
    provider = serializers.ChoiceField(choices=[Provider.AWS.value], default=Provider.AWS.value)
    aws_account_id = serializers.CharField(max_length=20, help_text="12 digits.")
    region = serializers.CharField(max_length=40)
    account_id = serializers.UUIDField(required=False, allow_null=True, default=None)


class RoleSetupOut(serializers.Serializer):
    account_id = serializers.UUIDField(source="account.id")
    external_id = serializers.CharField()
    role_name = serializers.CharField()
    role_arn = serializers.CharField()
    template_url = serializers.URLField()
    launch_url = serializers.URLField()


def _text_field(words: str) -> serializers.Field:
    return serializers.CharField(
        required=False, write_only=True, allow_null=True, allow_blank=True, trim_whitespace=False, help_text=words
    )


def _json_field(words: str) -> serializers.Field:
    return serializers.JSONField(required=False, write_only=True, allow_null=True, help_text=words)


class ConnectIn(serializers.Serializer):
    """Every field of every method of every provider is known here; which are needed depends on `provider` and `method`."""

    provider = serializers.CharField(max_length=20)
    method = serializers.CharField(max_length=20, help_text=f"One of {', '.join(m for m in Method.values if m)}.")
    name = serializers.CharField(max_length=120, required=False, allow_blank=True, default="")
    region = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    account_id = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Give this account new credentials."
    )

    def get_fields(self) -> dict[str, Any]:
        fields: dict[str, Any] = super().get_fields()
        for info in PROVIDERS.values():
            for field in (f for method in info.methods for f in method.fields):
                words = f"{info.label}: {field.label}."
                fields.setdefault(field.name, _json_field(words) if field.kind == "json" else _text_field(words))
        return fields

    def values(self) -> dict[str, Any]:
        """What belongs to the method: everything but the five fields above."""
        own = {"provider", "method", "name", "region", "account_id"}
        return {k: v for k, v in self.validated_data.items() if k not in own}


def user_shape(caller: Caller) -> dict[str, Any]:
    """`{id, email, role, organization}`."""
    return {
        "id": str(caller.user.pk),
        "email": caller.user.email,
        "role": str(caller.membership.role),
        "organization": organization_shape(caller.organization),
    }


def organization_shape(organization: Organization) -> dict[str, str]:
    return {"id": str(organization.pk), "name": organization.name}


def profile_shape(caller: Caller, memberships: list[Membership], *, mfa: bool, onboarding: bool) -> dict[str, Any]:
    """The profile of a person."""
    user: User = caller.user
    return {
        "kind": "user",
        **user_shape(caller),
        "name": user.name,
        "organizations": [
            {
                **organization_shape(m.organization),
                "timezone": m.organization.timezone,
                "currency": m.organization.currency,
                "role": str(m.role),
            }
            for m in memberships
        ],
        "permissions": sorted(caller.actor.permissions),
        "mfa": mfa,
        "onboarding": onboarding,
    }
