"""Settings, Cloud Integrations: the cards, one account, and what can be done with it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts import role_links, selectors, services
from accounts.access import caller_of, signed_in
from accounts.enums import AccountStatus, Method, Provider
from accounts.forms import ConnectForm, RenameForm, show_error
from accounts.models import CloudAccount
from accounts.providers.registry import PROVIDERS, ConnectMethod, ProviderInfo
from accounts.views import connecting
from accounts.views.common import done, settings_page
from core.errors import Conflict, CurfewError, Forbidden, InvalidInput, NotFound
from core.providers import ProviderError


@dataclass(frozen=True, slots=True)
class Card:
    """A cloud account as its card shows it."""

    id: UUID
    name: str
    provider_label: str
    icon: str
    account_label: str
    number: str
    region: str
    method_label: str
    is_role: bool
    status: str
    status_label: str
    reason: str
    next_step: str
    is_sandbox: bool
    found: tuple[tuple[str, int], ...]
    connected_at: datetime | None
    scanned_at: datetime | None
    principal: str
    continue_url: str


def words_of(kind: str) -> str:
    """`new_cloud_nodes` as people say it."""
    return kind.replace("_", " ")


def card_of(row: CloudAccount) -> Card:
    """The card of one account; a prepared role that waits for its stack has an address to go on at."""
    info = PROVIDERS.get(row.provider)
    waits = row.status == AccountStatus.PENDING and row.external_id
    fill = reverse("accounts:connect", args=["aws", "role"]) if waits else ""
    return Card(
        id=row.id,
        name=row.name,
        provider_label=row.get_provider_display(),
        icon=connecting.ICONS.get(row.provider, "cloud"),
        account_label=info.account_label if info else "Account",
        number=row.masked_number,
        region=row.region,
        method_label=row.get_method_display(),
        is_role=row.method in ("role", "service_principal"),
        status=row.status,
        status_label=row.get_status_display(),
        reason=row.status_reason,
        next_step=row.next_step,
        is_sandbox=row.is_sandbox,
        found=tuple((words_of(kind), int(count)) for kind, count in sorted(row.found.items())),
        connected_at=row.connected_at,
        scanned_at=row.scanned_at,
        principal=row.principal.replace(row.number, row.masked_number) if row.number else "",
        continue_url=f"{fill}?account={row.id}" if waits else "",
    )


def shown_accounts(rows: list[CloudAccount]) -> list[Card]:
    """All but the untouched placeholder of the sign-up."""
    return [card_of(row) for row in rows if row.method or row.external_id or row.number]


def _finish(request: HttpRequest, row: CloudAccount) -> HttpResponse:
    return done(
        request,
        reverse("accounts:cloud-accounts"),
        f"{row.name} is connected. The first scan usually takes two to three minutes.",
    )


PLACE = connecting.Place(
    template="accounts/connect.html",
    choose="accounts:connect-choose",
    fill="accounts:connect",
    render=settings_page,
    finish=_finish,
)


@signed_in
@require_safe
def cloud_accounts(request: HttpRequest) -> HttpResponse:
    """The cards, kept up to date by `live:accounts`."""
    actor = caller_of(request).actor
    cards = shown_accounts(selectors.list_accounts(actor=actor))
    context = {
        "page_title": "Cloud Integrations",
        "cards": cards,
        "busy": any(c.status == AccountStatus.SCANNING for c in cards),
        "may_manage": actor.can("accounts.manage"),
        **connecting.choice_context(request, PLACE),
    }
    return settings_page(request, "accounts/cloud_accounts.html", context, fragment="cards")


@signed_in
@require_GET
def connect_choose(request: HttpRequest) -> HttpResponse:
    """Which cloud, and how."""
    caller_of(request).actor.require("accounts.manage", "connect cloud accounts")
    context = {"page_title": "Connect a cloud account", **connecting.choice_context(request, PLACE)}
    return settings_page(request, "accounts/connect_choose.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def connect(request: HttpRequest, provider: str, method: str) -> HttpResponse:
    """The fields of one way."""
    return connecting.fill_in(request, PLACE, provider, method)


@require_POST
@signed_in
def connect_sandbox(request: HttpRequest) -> HttpResponse:
    """One click: the sandbox."""
    return connecting.connect_sandbox(request, PLACE)


def _known(row: CloudAccount) -> dict[str, str]:
    """What an AWS account's form need not ask again; its number is not shown in full, so it is not filled in either."""
    if row.provider != Provider.AWS:
        return {}
    return {"aws_account_id": row.number, **({"external_id": row.external_id} if row.method == Method.ROLE else {})}


def _credentials_form(info: ProviderInfo, method: ConnectMethod, row: CloudAccount, data: Any = None) -> ConnectForm:
    skip = ("external_id", "aws_account_id", "role_arn") if row.provider == Provider.AWS else ()
    form = ConnectForm(info, method, data, skip=skip, initial={**row.settings, "region": row.region})
    form.fields.pop("name")
    return form


def _account_page(request: HttpRequest, row: CloudAccount, *, status: int = 200, **bound: Any) -> HttpResponse:
    actor = caller_of(request).actor
    info = PROVIDERS.get(row.provider)
    method = next((m for m in info.methods if m.name == row.method), None) if info else None
    form = _credentials_form(info, method, row) if info and method else None
    context = {
        "page_title": row.name,
        "card": card_of(row),
        "may_manage": actor.can("accounts.manage"),
        "form": None if row.is_sandbox else form,
        "rename_form": RenameForm(initial={"name": row.name}),
        **bound,
    }
    return settings_page(request, "accounts/account.html", context, fragment="account", status=status)


@signed_in
@require_safe
def account(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """One account: its state, and its credentials to be entered anew."""
    return _account_page(request, selectors.get_account(actor=caller_of(request).actor, account_id=account_id))


@require_POST
@signed_in
def reconnect(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """New credentials for the same account."""
    actor = caller_of(request).actor
    actor.require("accounts.manage", "connect cloud accounts")
    row = selectors.get_account(actor=actor, account_id=account_id)
    info, method = connecting.find_way(request, row.provider, row.method)
    form = _credentials_form(info, method, row, request.POST)
    if form.is_valid():
        values = {**form.values(), **_known(row)}
        try:
            services.reconnect(
                actor=actor, account_id=account_id, values=values, region=form.cleaned_data.get("region", "")
            )
        except (Forbidden, NotFound):
            raise
        except (CurfewError, ProviderError) as refused:
            show_error(form, refused)
        else:
            return done(
                request,
                reverse("accounts:cloud-account", args=[row.id]),
                "The new credentials work. A scan has started.",
            )
    return _account_page(request, row, status=422, form=form)


@require_POST
@signed_in
def rename(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Another name."""
    actor = caller_of(request).actor
    row = selectors.get_account(actor=actor, account_id=account_id)
    form = RenameForm(request.POST)
    if form.is_valid():
        try:
            services.rename_account(actor=actor, account_id=account_id, name=form.cleaned_data["name"])
        except InvalidInput as refused:
            show_error(form, refused)
        else:
            return done(request, reverse("accounts:cloud-accounts"), "The name is changed.")
    return _account_page(request, row, status=422, rename_form=form)


@require_POST
@signed_in
def resync(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """A fresh scan."""
    row, _ = services.resync_account(actor=caller_of(request).actor, account_id=account_id)
    return done(request, reverse("accounts:cloud-accounts"), f"{row.name} is being scanned.")


@require_POST
@signed_in
def verify(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Ask the cloud whether the credentials still work."""
    actor = caller_of(request).actor
    try:
        row = services.verify_account(actor=actor, account_id=account_id)
    except ProviderError as refused:
        found = selectors.get_account(actor=actor, account_id=account_id)
        return _account_page(request, found, status=503 if refused.transient else 422, refusal=refused.to_dict())
    return done(request, reverse("accounts:cloud-account", args=[row.id]), f"{row.name} answers: the credentials work.")


@signed_in
@require_http_methods(["GET", "POST"])
def disconnect(request: HttpRequest, account_id: UUID) -> HttpResponse:
    """Say what would be lost, then forget the account."""
    actor = caller_of(request).actor
    actor.require("accounts.manage", "disconnect cloud accounts")
    row = selectors.get_account(actor=actor, account_id=account_id)
    refusal = ""
    if request.method == "POST":
        try:
            services.disconnect_account(actor=actor, account_id=account_id)
        except Conflict as refused:
            refusal = refused.message
        else:
            return done(request, reverse("accounts:cloud-accounts"), f"{row.name} is disconnected.")
    context = {
        "page_title": f"Disconnect {row.name}",
        "card": card_of(row),
        "effects": services.disconnect_effects(actor=actor, account=row),
        "refusal": refusal,
    }
    return settings_page(
        request, "accounts/disconnect.html", context, fragment="dialog", status=409 if refusal else 200
    )


@require_GET
def aws_role_template(request: HttpRequest, token: str) -> HttpResponse:
    """The CloudFormation template of a signed address: public, because AWS and the customer's shell fetch it."""
    answer = HttpResponse(role_links.template_of(token), content_type="application/yaml")
    answer["Content-Disposition"] = 'attachment; filename="curfew-role.yaml"'
    answer["Cache-Control"] = "private, max-age=300"
    return answer
