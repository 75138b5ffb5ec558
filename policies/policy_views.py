"""Pages of optimization policies: the list, the cards of one, its clusters, its versions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import selectors as accounts
from accounts.access import signed_in
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidInput, NotFound
from core.htmx import redirect, render_page
from policies import extensions, policy_viewing, selectors, services
from policies.document import Document, InvalidDocument
from policies.enums import PERMISSION_MANAGE, PERMISSION_VIEW
from policies.forms import policy_document
from policies.models import Policy


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def policies(request: HttpRequest) -> HttpResponse:
    """The list, with how many clusters follow each."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see policies")
    search = request.GET.get("search", "")[:120]
    context = {
        "page_title": "Optimization Policies",
        "rows": selectors.list_policy_rows(actor=actor, search=search),
        "grid": {
            "url": reverse("policies:policies"),
            "target": "#policies-grid",
            "search": search,
            "search_label": "Search policies",
        },
        "may_manage": actor.can(PERMISSION_MANAGE),
    }
    return render_page(request, "policies/policies.html", context, fragment="grid")


@signed_in
@require_http_methods(["GET", "POST"])
def new(request: HttpRequest) -> HttpResponse:
    """A new policy: only its name; everything else has the careful default and is changed on its page."""
    actor = _actor(request)
    actor.require(PERMISSION_MANAGE, "create policies")
    name, problems = request.POST.get("name", ""), []
    if request.method == "POST":
        try:
            row = services.create_policy(actor=actor, name=name)
            return redirect(request, row.get_absolute_url())
        except InvalidInput as wrong:
            problems = [word for words in wrong.errors.values() for word in words]
    context = {"page_title": "New policy", "name": name, "problems": problems}
    return render_page(request, "policies/policy_new.html", context, fragment="dialog", status=422 if problems else 200)


@signed_in
@require_http_methods(["GET", "POST"])
def policy(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """The cards of a policy; a POST saves a new version of it."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    data, errors = row.document, {}
    if request.method == "POST":
        data = policy_document(request.POST)
        try:
            saved = services.save_policy(
                actor=actor,
                policy_id=policy_id,
                document=data,
                expected=_number(request.POST.get("number", "")),
                note=request.POST.get("note", ""),
            )
        except InvalidInput as wrong:
            errors = wrong.errors
        except Conflict as stale:
            errors = {"": [stale.message]}
        else:
            words = f"Saved version {saved.number}." if saved.number != row.number else "Nothing was different."
            messages.success(request, words)
            return redirect(request, row.get_absolute_url())
    context = _context(request, row, data, errors)
    return render_page(request, "policies/policy.html", context, status=422 if errors else 200)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else None


def _context(request: HttpRequest, row: Policy, data: dict[str, Any], errors: dict[str, list[str]]) -> dict[str, Any]:
    actor = _actor(request)
    followers = selectors.followers(actor=actor, policy_id=row.id)
    others = selectors.others(actor=actor, policy_id=row.id)
    chosen = _chosen(request, [link.cluster_id for link in followers], [cluster.id for cluster, _ in others])
    source = extensions.schedules()
    choices = list(source.choices(actor)) if source else []
    ids = [link.cluster_id for link in followers]
    impact, looked_at = _impact(actor, data, chosen)
    organization = accounts.get_organization(actor=actor)
    return {
        "page_title": row.name,
        "row": row,
        "data": data,
        "levels": policy_viewing.LEVELS,
        "errors": errors,
        "said": [word for path, words in errors.items() for word in ([f"{path}: {w}" if path else w for w in words])],
        "templates": selectors.list_templates(actor=actor),
        "schedules": choices,
        "has_schedules": source is not None,
        "followed": source.followed(actor, ids) if source and ids else {},
        "namespaces": policy_viewing.namespaces(actor, ids, data),
        "zone": organization.timezone,
        "followers": followers,
        "others": others,
        "versions": selectors.list_versions(actor=actor, policy_id=row.id)[:10],
        "modes": policy_viewing.MODES,
        "thresholds": policy_viewing.THRESHOLDS_MONTHLY,
        "wrong": [],
        "impact": impact,
        "looked_at": looked_at,
        "chosen": chosen,
        "may_manage": actor.can(PERMISSION_MANAGE),
    }


def _chosen(request: HttpRequest, following: list[UUID], others: list[UUID]) -> list[UUID]:
    """The clusters that the estimate is of: the one that is asked for, else those that follow it, else the first one."""
    asked = request.POST.get("cluster") or request.GET.get("cluster", "")
    if asked:
        try:
            if UUID(asked) in {*following, *others}:
                return [UUID(asked)]
        except ValueError:
            pass
    return following or others[:1]


def _impact(actor: Actor, data: Any, clusters: list[UUID]) -> tuple[dict[str, Any], list[str]]:
    """The estimate of each card; nothing while the document is not valid or no cluster is there."""
    if not clusters or not actor.can("clusters.view"):
        return {}, []
    try:
        document = Document.from_json(data)
    except InvalidDocument:
        return {}, []
    found, names = selectors.estimate(actor=actor, document=document, cluster_ids=clusters)
    return dict(found), names


def _names(actor: Actor) -> dict[str, str]:
    """What the ids in a document stand for: node templates and schedules."""
    source = extensions.schedules()
    known = {str(row.id): row.name for row in selectors.list_templates(actor=actor)}
    return known | ({one.id: one.name for one in source.choices(actor)} if source else {})


@signed_in
@require_POST
def impact(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """The badges anew, for what is being edited; nothing is stored."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    following = [link.cluster_id for link in selectors.followers(actor=actor, policy_id=row.id)]
    others = [cluster.id for cluster, _ in selectors.others(actor=actor, policy_id=row.id)]
    data = policy_document(request.POST)
    wrong: list[str] = []
    changed = None
    try:
        written = Document.from_json(data).to_json()
        changed = policy_viewing.changed(row.document, written, _names(actor))
    except InvalidDocument as refused:
        wrong = [f"{path}: {' '.join(words)}" for path, words in refused.errors.items()]
    found, looked_at = _impact(actor, data, _chosen(request, following, others))
    context = {
        "impact": found,
        "looked_at": looked_at,
        "wrong": wrong,
        "changed": changed,
        "may_manage": actor.can(PERMISSION_MANAGE),
    }
    return render_page(request, "policies/partials/_impact_all.html", context)


@signed_in
@require_POST
def clusters(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """Apply the policy to clusters, change what it may do, or take clusters off it."""
    actor = _actor(request)
    actor.require(PERMISSION_MANAGE, "apply policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    try:
        if "take_off" in request.POST:
            ids = _ids([request.POST["take_off"]])
            services.take_off(actor=actor, cluster_ids=ids)
            messages.success(request, "Taken off. What it had done stays.")
        elif "set_mode" in request.POST:
            (one,) = _ids([request.POST["set_mode"]])
            services.set_mode(actor=actor, cluster_id=one, mode=request.POST.get(f"mode-{one}", ""))
            messages.success(request, "Changed what it may do there.")
        else:
            ids = _ids(request.POST.getlist("add"))
            done = services.apply_policy(
                actor=actor, policy_id=policy_id, cluster_ids=ids, mode=request.POST.get("mode") or None
            )
            messages.success(request, f"Applied to {len(done)} cluster{'' if len(done) == 1 else 's'}.")
    except NotFound:
        raise
    except CurfewError as refused:
        words = [w for many in getattr(refused, "errors", {}).values() for w in many] or [refused.message]
        messages.error(request, " ".join(words))
    return redirect(request, f"{row.get_absolute_url()}#applied")


def _ids(texts: list[str]) -> list[UUID]:
    try:
        return [UUID(text) for text in texts]
    except ValueError:
        raise NotFound("There is no such cluster.") from None


@signed_in
@require_http_methods(["GET", "POST"])
def version(request: HttpRequest, policy_id: UUID, number: int) -> HttpResponse:
    """One version beside the present one; a POST restores it."""
    actor = _actor(request)
    actor.require(PERMISSION_VIEW, "see policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    old = selectors.get_version(actor=actor, policy_id=policy_id, number=number)
    if request.method == "POST":
        try:
            saved = services.restore_version(actor=actor, policy_id=policy_id, number=number)
            messages.success(request, f"Version {number} is back, as version {saved.number}.")
        except (Conflict, InvalidInput) as refused:
            words = [w for many in getattr(refused, "errors", {}).values() for w in many] or [refused.message]
            messages.error(request, " ".join(words))
        return redirect(request, row.get_absolute_url())
    made, names = [], _names(actor)
    if number > 1:
        before = selectors.get_version(actor=actor, policy_id=policy_id, number=number - 1)
        made = policy_viewing.diff(before.document, old.document, names)
    context = {
        "page_title": f"{row.name}, version {number}",
        "row": row,
        "version": old,
        "made": made,
        "back": policy_viewing.diff(row.document, old.document, names),
        "may_manage": actor.can(PERMISSION_MANAGE),
    }
    return render_page(request, "policies/policy_version.html", context)


@signed_in
@require_POST
def rename(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """Give it another name."""
    row = selectors.get_policy(actor=_actor(request), policy_id=policy_id)
    try:
        services.rename_policy(actor=_actor(request), policy_id=policy_id, name=request.POST.get("name", ""))
    except InvalidInput as wrong:
        messages.error(request, " ".join(w for words in wrong.errors.values() for w in words))
    return redirect(request, row.get_absolute_url())


@signed_in
@require_POST
def delete(request: HttpRequest, policy_id: UUID) -> HttpResponse:
    """Delete a policy that no cluster follows."""
    row = selectors.get_policy(actor=_actor(request), policy_id=policy_id)
    try:
        services.delete_policy(actor=_actor(request), policy_id=policy_id)
    except Conflict as refused:
        messages.error(request, refused.message)
        return redirect(request, row.get_absolute_url())
    messages.success(request, f"Deleted {row.name}.")
    return redirect(request, reverse("policies:policies"))
