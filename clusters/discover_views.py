"""The wizard's way through a cloud account: search its regions, choose a cluster, connect it with its tags filled in."""

from __future__ import annotations

from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from accounts.access import signed_in
from accounts.models import CloudAccount
from accounts.providers.aws import aws_regions
from clusters import services
from clusters.forms import FoundForm, SearchForm
from clusters.selectors import found as selectors
from clusters.services.connecting import from_tags
from clusters.services.discovering import regions_of
from clusters.views import actor_of
from clusters.wizard_views import show_install
from core.errors import Conflict, InvalidInput
from core.htmx import redirect, render_page

DESCRIBED = ("name", "environment", "team", "owner")


@signed_in
@require_http_methods(["GET", "POST"])
def discover(request: HttpRequest) -> HttpResponse:
    """Step 2 by discovery: choose account and regions, watch the search, see what is not connected yet."""
    actor = actor_of(request)
    accounts = selectors.searchable_accounts(actor=actor)
    if request.method == "POST":
        form = SearchForm(request.POST, regions=_choices(accounts))
        if form.is_valid():
            account_id = form.cleaned_data["account"]
            services.request_discovery(actor=actor, account_id=account_id, regions=form.cleaned_data["regions"])
            return redirect(request, f"{reverse('clusters:discover')}?{urlencode({'account': account_id})}")
        raise InvalidInput("Choose an account and regions from the list.")
    account = _chosen(accounts, request.GET.get("account", ""))
    last = None
    if account is not None:
        last = selectors.last_operation(actor=actor, kind=services.DISCOVER, resource_id=account.id)
    looked = set(last.payload.get("regions", []) if last else regions_of(account) if account else [])
    context = {
        "page_title": "Find clusters",
        "step": 2,
        "accounts": [{"account": one, "current": one == account} for one in accounts],
        "account": account,
        "regions": [{"name": region, "chosen": region in looked} for region in _choices(accounts)],
        "last": last,
        "running": last is not None and not last.is_final,
        "rights": last.result.get("rights", []) if last else [],
        "found": selectors.unmanaged(actor=actor, account=account) if account else [],
    }
    return render_page(request, "clusters/discover.html", context, fragment="search")


def _choices(accounts: list[CloudAccount]) -> list[str]:
    own = [region for account in accounts for region in regions_of(account)]
    return list(dict.fromkeys([*own, *aws_regions()]))


def _chosen(accounts: list[CloudAccount], text: str) -> CloudAccount | None:
    return next((one for one in accounts if str(one.id) == text), accounts[0] if accounts else None)


@signed_in
@require_http_methods(["GET", "POST"])
def found(request: HttpRequest, found_id: UUID) -> HttpResponse:
    """Step 2 of a found cluster: what its tags say, to be corrected; then its agent (3) or the first look (4)."""
    actor = actor_of(request)
    row = selectors.get_found(actor=actor, found_id=found_id)
    told = {"name": row.name, "region": row.region, **from_tags(row.tags)}
    form = FoundForm(request.POST or None, initial=told)
    if request.method == "POST" and form.is_valid():
        facts = {name: form.cleaned_data[name] for name in DESCRIBED}
        try:
            made = services.connect_found(actor=actor, found_id=found_id, way=form.cleaned_data["way"], **facts)
        except InvalidInput as refused:
            for field, words in refused.errors.items():
                form.add_error(field if field in form.fields else None, words)
        except Conflict as refused:
            form.add_error(None, refused.message)
        else:
            if made.token:
                return show_install(request, made, "agent")
            return redirect(request, reverse("clusters:waiting", args=[made.cluster.id]))
    context = {"page_title": f"Connect {row.name}", "step": 2, "form": form, "way": "found", "row": row}
    return render_page(request, "clusters/describe.html", context, status=422 if form.errors else 200)


@signed_in
@require_POST
def preflight(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Check permissions (again); the answer is seen where the wizard waits."""
    services.request_preflight(actor=actor_of(request), cluster_id=cluster_id)
    return redirect(request, reverse("clusters:waiting", args=[cluster_id]))
