"""The connect flow, once for the settings and once for the wizard: choose a way, fill in, done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse

from accounts import role_links, sandbox, selectors, services
from accounts.access import caller_of
from accounts.enums import Method, Provider
from accounts.forms import ConnectForm, RoleForm, show_error
from accounts.models import CloudAccount
from accounts.providers.aws import partition_of
from accounts.providers.registry import PROVIDERS, ConnectMethod, ProviderInfo
from accounts.services.roles import RoleSetup, setup_of
from core.errors import CurfewError, Forbidden, NotFound
from core.htmx import redirect
from core.providers import ProviderError

ICONS = {"aws": "brand-aws", "azure": "brand-azure", "gcp": "brand-google", "docker": "brand-docker"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the flow runs: its addresses, its template, and what to do when an account is connected."""

    template: str
    choose: str
    fill: str
    render: Callable[..., HttpResponse]
    finish: Callable[[HttpRequest, CloudAccount], HttpResponse]

    def fill_url(self, provider: str, method: str) -> str:
        return reverse(self.fill, args=[provider, method])


@dataclass(frozen=True, slots=True)
class Way:
    """One card of the choice."""

    provider: str
    provider_label: str
    method: str
    label: str
    help: str
    icon: str
    url: str


def ways(request: HttpRequest, place: Place) -> list[Way]:
    """Every way to connect that this person may use, AWS first."""
    operator = caller_of(request).user.is_staff
    return [
        Way(
            info.name,
            info.label,
            m.name,
            m.label,
            m.help,
            ICONS.get(info.name, "cloud"),
            place.fill_url(info.name, m.name),
        )
        for info in PROVIDERS.values()
        for m in info.methods
        if operator or not m.operator_only
    ]


def choice_context(request: HttpRequest, place: Place) -> dict[str, Any]:
    """Context of the page that offers the ways."""
    offered = ways(request, place)
    return {
        "aws_ways": [w for w in offered if w.provider == Provider.AWS],
        "other_ways": [w for w in offered if w.provider != Provider.AWS],
        "sandbox_offered": sandbox.is_offered(),
    }


def find_way(request: HttpRequest, provider: str, method: str) -> tuple[ProviderInfo, ConnectMethod]:
    """The provider and method of an address; NotFound for unknown ones, Forbidden for the operator's own."""
    info = PROVIDERS.get(provider)
    way = next((m for m in info.methods if m.name == method), None) if info else None
    if info is None or way is None:
        raise NotFound("There is no such way to connect.")
    if way.operator_only and not caller_of(request).user.is_staff:
        raise Forbidden(
            f"{way.label} reaches into this server itself: only its operator may connect it.", permission="operator"
        )
    return info, way


def fill_in(request: HttpRequest, place: Place, provider: str, method: str) -> HttpResponse:
    """The page with the fields, and what happens when they are sent."""
    caller_of(request).actor.require("accounts.manage", "connect cloud accounts")
    info, way = find_way(request, provider, method)
    if provider == Provider.AWS and method == Method.ROLE:
        return _by_role(request, place, info, way)
    form = ConnectForm(info, way, request.POST if request.method == "POST" else None)
    if form.is_bound and form.is_valid():
        answer = _try(request, place, form, provider, method, form.values())
        if answer is not None:
            return answer
    return _show(request, place, info, way, {"form": form}, status=422 if form.is_bound else 200)


def _by_role(request: HttpRequest, place: Place, info: ProviderInfo, way: ConnectMethod) -> HttpResponse:
    """Two halves on one address: number and region, then the stack and Verify."""
    step = request.POST.get("step", "")
    if step == "prepare":
        return _prepare(request, place, info, way)
    setup = _prepared(request)
    if setup is None:
        return _show(request, place, info, way, {"role_form": RoleForm(info)})
    form = ConnectForm(
        info, way, request.POST if step == "verify" else None, skip=("aws_account_id", "external_id", "role_arn")
    )
    form.fields.pop("region")
    if form.is_bound and form.is_valid():
        values = {"aws_account_id": setup.account.settings["aws_account_id"], "external_id": setup.external_id}
        answer = _try(request, place, form, info.name, way.name, values, region=setup.account.region)
        if answer is not None:
            return answer
    return _show(request, place, info, way, {"setup": setup, "form": form}, status=422 if form.is_bound else 200)


def _prepare(request: HttpRequest, place: Place, info: ProviderInfo, way: ConnectMethod) -> HttpResponse:
    form = RoleForm(info, request.POST)
    if form.is_valid():
        try:
            setup = services.prepare_role(actor=caller_of(request).actor, **form.cleaned_data)
        except (CurfewError, ProviderError) as refused:
            _raise_if_not_for_the_form(refused)
            show_error(form, refused)
        else:
            return redirect(request, f"{place.fill_url(info.name, way.name)}?account={setup.account.id}")
    return _show(request, place, info, way, {"role_form": form}, status=422)


def _prepared(request: HttpRequest) -> RoleSetup | None:
    """The role that the address names, while it waits to be connected."""
    try:
        account_id = UUID(request.GET.get("account", ""))
    except ValueError:
        return None
    row = selectors.find_prepared(actor=caller_of(request).actor, account_id=account_id)
    if row is None:
        return None
    return setup_of(
        row,
        number=row.settings["aws_account_id"],
        region=row.region,
        partition=partition_of(row.region),
        platform=role_links.platform_account(),
    )


def _try(
    request: HttpRequest,
    place: Place,
    form: ConnectForm,
    provider: str,
    method: str,
    values: dict[str, str],
    region: str = "",
) -> HttpResponse | None:
    """Connect; None when the form now says why not."""
    try:
        row = services.connect_account(
            actor=caller_of(request).actor,
            provider=provider,
            method=method,
            name=form.cleaned_data["name"],
            region=region or form.cleaned_data.get("region", ""),
            values=values,
        )
    except (CurfewError, ProviderError) as refused:
        _raise_if_not_for_the_form(refused)
        show_error(form, refused)
        return None
    return place.finish(request, row)


def connect_sandbox(request: HttpRequest, place: Place) -> HttpResponse:
    """One click: a sandbox account by role or keys."""
    row = services.connect_sandbox(actor=caller_of(request).actor, method=request.POST.get("method", "keys"))
    return place.finish(request, row)


def _raise_if_not_for_the_form(refused: Exception) -> None:
    if isinstance(refused, (Forbidden, NotFound)):
        raise refused


def _show(
    request: HttpRequest,
    place: Place,
    info: ProviderInfo,
    way: ConnectMethod,
    context: dict[str, Any],
    *,
    status: int = 200,
) -> HttpResponse:
    setup = context.get("setup")
    shared = {
        "page_title": f"Connect {info.label}",
        "info": {"name": info.name, "label": info.label, "account_label": info.account_label},
        "way": {"name": way.name, "label": way.label, "help": way.help},
        "icon_name": ICONS.get(info.name, "cloud"),
        "choose_url": reverse(place.choose),
        "fill_url": place.fill_url(info.name, way.name),
        "sandbox_offered": sandbox.is_offered() and info.name == Provider.AWS,
        "cli": cli_command(setup) if setup else "",
        **context,
    }
    return place.render(request, place.template, shared, status=status)


def cli_command(setup: RoleSetup) -> str:
    """The stack as one command, for people who would rather not click."""
    return (
        f"curl -fsSo curfew-role.yaml '{setup.template_url}' && aws cloudformation deploy --template-file curfew-role.yaml "
        f"--stack-name curfew-access --capabilities CAPABILITY_NAMED_IAM --region {setup.account.region}"
    )
