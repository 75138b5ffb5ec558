"""Pages of node templates: the list, the slide-over with its live check, import and export."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import selectors as accounts
from accounts.access import signed_in
from core.actor import Actor
from core.errors import Conflict, InvalidInput, NotFound
from core.htmx import is_fragment, redirect, render_page, toast
from core.providers import ProviderError
from policies import exchange, gateway, selectors, services, viewing
from policies.catalogue import catalogue
from policies.enums import PERMISSION_MANAGE, PERMISSION_VIEW
from policies.forms import TemplateForm, template_values
from policies.models import NodeTemplate

LIST = "policies/templates.html"
FORM = "policies/template.html"


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _query(request: HttpRequest) -> QueryDict:
    """What narrows the list: of the page that is open, when something on it was changed."""
    url = reverse("policies:templates")
    if request.path == url:
        return request.GET
    there = urlsplit(request.headers.get("HX-Current-URL", ""))
    return QueryDict(there.query[:500] if there.path == url else "")


def _list_context(request: HttpRequest) -> dict[str, Any]:
    actor, query = _actor(request), _query(request)
    actor.require(PERMISSION_VIEW, "see node templates")
    found = selectors.list_templates(actor=actor, search=query.get("search", "")[:120])
    counts = Counter(row.purchasing for row in found)
    buying = query.get("buying", "")
    shown = [row for row in found if not buying or row.purchasing == buying]
    uses = selectors.uses(actor=actor, templates=shown) if shown else {}
    return {
        "page_title": "Node Templates",
        "rows": [viewing.row_of(row, uses[row.id]) for row in shown],
        "grid": viewing.toolbar(query, counts, reverse("policies:templates")),
        "here": f"{reverse('policies:templates')}?{query.urlencode()}".rstrip("?"),
        "narrowed": bool(query.get("search") or buying),
        "may_manage": actor.can(PERMISSION_MANAGE),
    }


@signed_in
@require_GET
def templates(request: HttpRequest) -> HttpResponse:
    """The list; search and pills are in the address."""
    return render_page(request, LIST, _list_context(request), fragment="grid")


def _refreshed(request: HttpRequest, words: str, closes: str = "") -> HttpResponse:
    """After a change: the list anew, in its place, with a notice; without scripts back to the list. `closes` is the
    drawer or dialog that it came from: emptied as well, so that no late answer opens it again."""
    if not is_fragment(request):
        return redirect(request, reverse("policies:templates"))
    events = {f"{closes}:close": True} if closes else {}
    context = {**_list_context(request), "emptied": f"{closes}-host" if closes else ""}
    response = render_page(request, LIST, context, fragment="grid", trigger={**toast(words, "good"), **events})
    response["HX-Retarget"], response["HX-Reswap"] = "#templates-grid", "outerMorph"
    return response


@signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """The slide-over for a new template."""
    _actor(request).require(PERMISSION_MANAGE, "create node templates")
    return _form(request, None)


@signed_in
@require_http_methods(["GET", "POST"])
def template(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """One template: its slide-over for whoever may change it, else what it says."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see node templates")
    row = selectors.get_template(actor=actor, template_id=template_id)
    if request.method == "POST":
        actor.require(PERMISSION_MANAGE, "change node templates")
    return _form(request, row)


def _form(request: HttpRequest, row: NodeTemplate | None) -> HttpResponse:
    actor = _actor(request)
    posted = request.method == "POST"
    aws = [a for a in accounts.list_accounts(actor=actor) if a.provider == "aws" and a.status == "active"]
    choices = [(str(a.id), f"{a.name} ({a.number})" if a.number else a.name) for a in aws]
    known = _known(row)
    form = TemplateForm(request.POST if posted else None, accounts=choices, initial=known)
    values = template_values(request.POST) if posted else known
    if posted and form.is_valid():
        try:
            saved = services.save_template(
                actor=actor,
                values=values,
                template_id=row.id if row else None,
                make_default=form.cleaned_data["make_default"] or None,
            )
        except InvalidInput as wrong:
            form.refuse(wrong)
        else:
            done = f"Saved {saved.name}" if row else f"Created {saved.name}"
            return _refreshed(request, done, closes="drawer")
    context = {
        "page_title": row.name if row else "Create a node template",
        "row": row,
        "form": form,
        "values": values,
        "action": reverse("policies:template", args=[row.id]) if row else reverse("policies:template-new"),
        "groups": viewing.groups(values.get("families") or (), str(values.get("region") or "")),
        "sizes": viewing.SIZES,
        "may_manage": actor.can(PERMISSION_MANAGE),
        "uses": selectors.uses_of(actor=actor, template=row) if row else None,
        "steps_shown": SHOWN,
        "wrong_steps": _wrong_steps(form),
        **_checked(request, values, row),
    }
    return render_page(request, FORM, context, fragment="drawer", status=422 if form.errors else 200)


SHOWN = ((1, "General"), (2, "Compute"), (3, "Purchasing"), (4, "Storage and network"), (5, "Summary"))
STEPS = {
    1: ("name", "description", "make_default"),
    3: ("on_demand_base", "on_demand_percent"),
    4: ("disk_type", "disk_gib", "account_id", "region", "node_role", "image", "limit_cpu", "limit_memory_gib"),
}


def _wrong_steps(form: TemplateForm) -> list[int]:
    """The steps that hold something wrong, so that the first of them is shown. Step 2 has the lists."""
    if not form.errors:
        return []
    found = [step for step, fields in STEPS.items() if any(name in form.errors for name in fields)]
    return sorted([*found, 2] if "__all__" in form.errors else found)


def _known(row: NodeTemplate | None) -> dict[str, Any]:
    """What the form begins with."""
    if row is None:
        return {
            "architectures": ["amd64"],
            "excluded_sizes": ["nano", "micro", "small"],
            "purchasing": "spot",
            "strategy": "capacity_optimized",
            "on_demand_base": 0,
            "on_demand_percent": 0,
            "disk_type": "gp3",
            "disk_gib": 50,
            "image": "al2023@latest",
        }
    return {
        **services.values_of(row.blueprint()),
        "description": row.description,
        "region": row.region,
        "account_id": str(row.account_id) if row.account_id else "",
        "make_default": row.is_default,
    }


def _checked(request: HttpRequest, values: dict[str, Any], row: NodeTemplate | None) -> dict[str, Any]:
    """The live part: name, conflicts, average price, what may be launched, the JSON."""
    name = str(values.get("name") or "").strip()
    blueprint = services.draft(values)
    verdict = selectors.judge(blueprint, str(values.get("region") or ""))
    taken = bool(name) and selectors.name_taken(actor=_actor(request), name=name, but=row.id if row else None)
    return {
        "values": values,
        "check": verdict,
        "name_taken": taken,
        "checked_name": name,
        "summary": viewing.summary(blueprint),
    }


@signed_in
@require_POST
def check(request: HttpRequest) -> HttpResponse:
    """Judge what is being written; nothing is stored."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see node templates")
    row = None
    if request.POST.get("template"):
        row = selectors.get_template(actor=actor, template_id=_uuid(request.POST["template"]))
    context = _checked(request, template_values(request.POST), row)
    return render_page(request, "policies/partials/_check.html", context)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise NotFound("There is no such node template.") from None


@signed_in
@require_POST
def network(request: HttpRequest) -> HttpResponse:
    """Security groups and subnets, asked of the account now."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see node templates")
    values = template_values(request.POST)
    context: dict[str, Any] = {"values": values, "groups": [], "subnets": [], "problem": "", "asked": False}
    if values.get("account_id"):
        account = accounts.get_account(actor=actor, account_id=values["account_id"])
        context |= {"asked": True, "region": values.get("region") or account.region}
        try:
            there = gateway.open_network(account, str(values.get("region") or ""))
            context |= {"groups": there.security_groups(), "subnets": there.subnets()}
        except ProviderError as refused:
            context["problem"] = refused.message
    found = {one.id for one in (*context["groups"], *context["subnets"])}
    context["missing"] = [i for i in (*values["security_groups"], *values["subnets"]) if i not in found]
    return render_page(request, "policies/partials/_network.html", context)


@signed_in
@require_POST
def make_default(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """Move the star."""
    row = services.set_default(actor=_actor(request), template_id=template_id)
    return _refreshed(request, f"{row.name} is the default now")


@signed_in
@require_POST
def clone(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """A copy under the next free name."""
    row = services.clone_template(actor=_actor(request), template_id=template_id)
    return _refreshed(request, f"Created {row.name}")


@signed_in
@require_http_methods(["GET", "POST"])
def delete(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """Ask, with what uses it; then delete."""
    actor = _actor(request)
    actor.require(PERMISSION_MANAGE, "delete node templates")
    row = selectors.get_template(actor=actor, template_id=template_id)
    if request.method == "POST":
        try:
            services.delete_template(actor=actor, template_id=template_id)
        except Conflict as refused:
            return _delete_dialog(request, row, refused.message, 409)
        return _refreshed(request, f"Deleted {row.name}", closes="dialog")
    return _delete_dialog(request, row)


def _delete_dialog(request: HttpRequest, row: NodeTemplate, problem: str = "", status: int = 200) -> HttpResponse:
    uses = selectors.uses_of(actor=_actor(request), template=row)
    context = {"page_title": f"Delete {row.name}", "row": row, "uses": uses, "problem": problem}
    return render_page(request, "policies/template_delete.html", context, fragment="dialog", status=status)


@signed_in
@require_GET
def karpenter(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """The template as Karpenter's objects, as a file."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see node templates")
    row = selectors.get_template(actor=actor, template_id=template_id)
    cluster = request.GET.get("cluster", "").strip()[:100] or "CLUSTER_NAME"
    text = exchange.to_karpenter(row.blueprint(), cluster=cluster).text()
    response = HttpResponse(text, content_type="application/yaml; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{exchange.object_name(row.name)}.yaml"'
    return response


@signed_in
@require_http_methods(["GET", "POST"])
def take_in(request: HttpRequest) -> HttpResponse:
    """Import from Karpenter: paste or upload, look at what would come, save."""
    actor = _actor(request)
    actor.require(PERMISSION_MANAGE, "import node templates")
    text, errors, found, status = "", [], [], 200
    if request.method == "POST":
        upload = request.FILES.get("file")
        text = request.POST.get("manifest", "")
        if upload is not None:
            text = upload.read(exchange.LARGEST + 1).decode("utf-8", "replace")
        try:
            if "save" in request.POST:
                done = services.import_templates(actor=actor, text=text)
                names = ", ".join(row.name for row, _ in done)
                return _refreshed(request, f"Imported {names}", closes="dialog")
            found = exchange.from_karpenter(text, catalogue())
        except InvalidInput as wrong:
            errors, status = [w for words in wrong.errors.values() for w in words], 422
        except exchange.InvalidManifest as wrong:
            errors, status = [str(wrong)], 422
    context = {
        "page_title": "Import from Karpenter",
        "text": text,
        "problems": errors,
        "found": [{**asdict(one), "json": json.dumps(services.values_of(one.blueprint), indent=2)} for one in found],
    }
    return render_page(request, "policies/template_import.html", context, fragment="dialog", status=status)
