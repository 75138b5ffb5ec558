"""Forms of people, keys and cloud accounts. They check shape; services check meaning."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from allauth.account.forms import LoginForm
from django import forms

from accounts.enums import AgentKind, Theme
from accounts.permissions import ALL_PERMISSIONS
from accounts.providers.registry import ConnectMethod, CredentialField, ProviderInfo
from accounts.selectors import roles_to_give
from accounts.services.shape import FIELD_OF_CODE
from core.actor import Actor
from core.errors import CurfewError, InvalidInput
from core.providers import ProviderError


def show_error(form: forms.Form, error: CurfewError | ProviderError) -> None:
    """Put a refusal of a service or a cloud beside the field that it is about, else above the form."""
    if isinstance(error, InvalidInput) and error.errors:
        for field, messages in error.errors.items():
            for message in messages:
                form.add_error(field if field in form.fields else None, message)
        return
    about = FIELD_OF_CODE.get(error.code)
    words = f"{error.message} {getattr(error, 'next_step', '')}".strip()
    form.add_error(about if about in form.fields else None, words)


class SecretText(forms.Textarea):
    """A large field whose content never goes back to the browser."""

    def format_value(self, value: Any) -> str | None:
        return ""


class PortalLoginForm(LoginForm):
    """E-mail and password; checks, limits and stages are allauth's."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        login, password = self.fields["login"], self.fields["password"]
        login.label, password.label, password.help_text = "E-mail address", "Password", ""
        login.widget.attrs = {
            "type": "email",
            "autocomplete": "username",
            "maxlength": "254",
            "autofocus": True,
            "spellcheck": "false",
        }
        password.widget.attrs = {"autocomplete": "current-password", "maxlength": "1024"}
        login.error_messages["required"] = "Enter your e-mail address."
        password.error_messages["required"] = "Enter your password."
        self.fields["remember"].label = "Keep me logged in on this computer"


class SignUpForm(forms.Form):
    """Organization, e-mail address, password."""

    organization = forms.CharField(
        max_length=120,
        label="Organization",
        error_messages={"required": "Give your organization a name."},
        widget=forms.TextInput(attrs={"autocomplete": "organization", "autofocus": True}),
    )
    name = forms.CharField(
        max_length=120, required=False, label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    email = forms.EmailField(
        max_length=254,
        label="E-mail address",
        error_messages={"required": "Enter your e-mail address.", "invalid": "This is not an e-mail address."},
        widget=forms.EmailInput(attrs={"autocomplete": "username", "spellcheck": "false"}),
    )
    password = forms.CharField(
        max_length=1024,
        strip=False,
        label="Password",
        help_text="At least ten characters; a few words make a good one.",
        error_messages={"required": "Choose a password."},
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class JoinForm(forms.Form):
    """A new person accepts an invitation; the address is the invitation's."""

    name = forms.CharField(
        max_length=120,
        required=False,
        label="Your name",
        widget=forms.TextInput(attrs={"autocomplete": "name", "autofocus": True}),
    )
    password = forms.CharField(
        max_length=1024,
        strip=False,
        label="Password",
        help_text="At least ten characters; a few words make a good one.",
        error_messages={"required": "Choose a password."},
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )


class InviteForm(forms.Form):
    """Whom to invite, and as what; only roles that the inviter may give are offered."""

    email = forms.EmailField(
        max_length=254,
        label="E-mail address",
        error_messages={"required": "Enter an e-mail address.", "invalid": "This is not an e-mail address."},
        widget=forms.EmailInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    role = forms.ChoiceField(label="Role", initial="viewer")

    def __init__(self, actor: Actor, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        role = self.fields["role"]
        if isinstance(role, forms.ChoiceField):
            role.choices = roles_to_give(actor=actor)


class EnrolForm(forms.Form):
    """A token that lets agents of one kind in."""

    kind = forms.ChoiceField(label="For", choices=AgentKind.choices)
    name = forms.CharField(
        max_length=120,
        label="Name",
        help_text="Where it is used, such as “Rack 3”.",
        error_messages={"required": "Give the token a name."},
    )
    hours = forms.TypedChoiceField(
        label="Lets agents in",
        coerce=int,
        choices=[("1", "For an hour"), ("24", "For a day"), ("168", "For a week")],
        initial="24",
        help_text="Agents that came in stay in after that, until their own token is revoked.",
    )


def own_zone_choices() -> list[tuple[str, str]]:
    """The zones, and the one that changes with the organization's."""
    return [("", "That of the organization"), *zone_choices()]


@cache
def zone_choices() -> list[tuple[str, str]]:
    """Every zone with a place in its name, and UTC."""
    names = sorted(
        z
        for z in available_timezones()
        if z == "UTC" or ("/" in z and not z.startswith(("Etc/", "SystemV/", "posix", "right")))
    )
    return [(name, name.replace("_", " ")) for name in names]


class ProfileForm(forms.Form):
    name = forms.CharField(
        max_length=120, required=False, label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    timezone = forms.ChoiceField(
        required=False,
        label="Your time zone",
        help_text="Your quiet hours and digests are read in this zone.",
        choices=own_zone_choices,
    )


class OrganizationForm(forms.Form):
    name = forms.CharField(max_length=120, label="Name", error_messages={"required": "Give the organization a name."})
    timezone = forms.ChoiceField(
        label="Time zone", help_text="Days of the ledger and new schedules are read in this zone.", choices=zone_choices
    )


class NewOrganizationForm(forms.Form):
    name = forms.CharField(
        max_length=120,
        label="Name",
        error_messages={"required": "Give the organization a name."},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


class AppearanceForm(forms.Form):
    theme = forms.ChoiceField(required=False, label="Colours", choices=Theme.choices, widget=forms.RadioSelect)


class RenameForm(forms.Form):
    name = forms.CharField(max_length=120, label="Name", error_messages={"required": "A name has 1 to 120 characters."})


class RoleForm(forms.Form):
    """The first half of connecting AWS by role."""

    aws_account_id = forms.CharField(
        max_length=20,
        label="AWS account number",
        help_text="12 digits, from the top right corner of the AWS console.",
        error_messages={"required": "Enter the account's number."},
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "spellcheck": "false"}),
    )
    region = forms.ChoiceField(label="Region", help_text="Where your machines are; the scan looks here.")

    def __init__(self, info: ProviderInfo, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        _choose_region(self.fields["region"], info)


class ConnectForm(forms.Form):
    """Name, region and the fields of one method of one provider, built from the registry."""

    def __init__(
        self, info: ProviderInfo, method: ConnectMethod, data: Any = None, *, skip: Iterable[str] = (), **kwargs: Any
    ) -> None:
        super().__init__(data, **kwargs)
        self.names = [f.name for f in method.fields if f.name not in skip]
        self.fields["name"] = forms.CharField(
            max_length=120,
            required=False,
            label="Name",
            help_text=f"What the {info.account_label} is called here; its own name otherwise.",
        )
        if info.regions:
            self.fields["region"] = forms.ChoiceField(
                label="Region", help_text="Where your machines are; the scan looks here."
            )
            _choose_region(self.fields["region"], info)
        for field in method.fields:
            if field.name not in skip:
                self.fields[field.name] = _field(field)

    def values(self) -> dict[str, str]:
        """What belongs to the method."""
        return {name: self.cleaned_data.get(name, "") for name in self.names}


def _choose_region(field: forms.Field, info: ProviderInfo) -> None:
    if isinstance(field, forms.ChoiceField):
        field.choices = [(region, region) for region in info.regions]
        field.initial = info.default_region


def _field(field: CredentialField) -> forms.Field:
    attrs = {"autocomplete": "off", "spellcheck": "false", "class": "mono"}
    widget: forms.Widget
    if field.kind == "choice":
        return forms.ChoiceField(
            label=field.label, required=field.required, help_text=field.help, choices=[(c, c) for c in field.choices]
        )
    if field.multiline:
        widget = (SecretText if field.is_secret else forms.Textarea)(attrs={**attrs, "rows": 5})
    elif field.is_secret:
        widget = forms.PasswordInput(attrs={**attrs, "autocomplete": "new-password"})
    else:
        widget = forms.TextInput(attrs=attrs)
    return forms.CharField(
        label=field.label,
        required=field.required,
        help_text=field.help,
        widget=widget,
        max_length=32_000,
        error_messages={"required": f"{field.label} is needed."},
    )


class ApiKeyForm(forms.Form):
    """A key's name, end and rights; only rights that its maker has are offered."""

    name = forms.CharField(
        max_length=120,
        label="Name",
        help_text="What will use it, such as “Render farm”.",
        error_messages={"required": "Give the key a name."},
    )
    days = forms.TypedChoiceField(
        label="Ends",
        coerce=lambda text: int(text) or None,
        choices=[("30", "After 30 days"), ("90", "After 90 days"), ("365", "After a year"), ("0", "Never")],
        initial="90",
    )
    scopes = forms.MultipleChoiceField(
        label="May", widget=forms.CheckboxSelectMultiple, error_messages={"required": "Choose at least one permission."}
    )

    def __init__(self, actor: Actor, data: Any = None, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        scopes = self.fields["scopes"]
        if isinstance(scopes, forms.MultipleChoiceField):
            scopes.choices = [(name, name) for name in ALL_PERMISSIONS if actor.can(name)]
