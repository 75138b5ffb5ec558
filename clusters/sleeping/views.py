"""The page of a cluster's sleep: what would stop, what stays and why, the order's steps, rules, fights and history."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.text import slugify
from django.views.decorators.http import require_GET, require_POST

from accounts.access import signed_in
from clusters import selectors as clusters
from clusters.models import Cluster
from clusters.services import steering
from clusters.sleeping import files, look, services
from clusters.sleeping.forms import RulesForm
from clusters.sleeping.selectors import SleepFacts, page_of
from core.actor import Actor
from core.errors import InvalidInput, NotFound
from core.htmx import redirect, render_page, toast


def actor_of(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


@signed_in
@require_GET
def page(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """The page, and its fragment while an order is under way."""
    cluster = clusters.get_cluster(actor=actor_of(request), cluster_id=cluster_id)
    return _show(request, cluster)


def _show(
    request: HttpRequest,
    cluster: Cluster,
    *,
    form: RulesForm | None = None,
    status: int = 200,
    trigger: dict[str, Any] | None = None,
) -> HttpResponse:
    actor = actor_of(request)
    facts = page_of(actor=actor, cluster=cluster)
    context = {
        "page_title": f"Sleep of {cluster.name}",
        "cluster": cluster,
        "s": facts,
        "form": form or _form(facts),
        "choices": _choices(facts),
        "may_operate": actor.can(steering.OPERATE),
        "may_manage": actor.can(steering.MANAGE),
        "busy": facts.operation is not None or facts.looking is not None,
    }
    return render_page(request, "clusters/sleep.html", context, fragment="sleep", status=status, trigger=trigger)


def _form(facts: SleepFacts) -> RulesForm:
    rules = facts.rules
    assert rules is not None
    return RulesForm(
        initial={
            "scope": "selective" if rules.selective else "full",
            "critical": "\n".join(rules.critical),
            "keep": "\n".join(f"{key}={value}" if value else key for key, value in rules.keep),
            "to_zero": rules.to_zero,
            "on_demand": rules.on_demand,
        }
    )


def _choices(facts: SleepFacts) -> list[dict[str, Any]]:
    """The groups to choose from: those that a look found, and those that were chosen before."""
    chosen = set(facts.rules.groups) if facts.rules else set()
    known = set((facts.look or {}).get("choices") or ()) | chosen
    kinds = {"asg": "Auto Scaling group", "managed": "EKS node group", "karpenter": "Karpenter pool"}
    return [
        {
            "key": key,
            "name": key.partition(":")[2],
            "kind": kinds.get(key.partition(":")[0], ""),
            "chosen": key in chosen,
        }
        for key in sorted(known)
    ]


def _after(request: HttpRequest, cluster_id: UUID, words: str) -> HttpResponse:
    if not getattr(request, "htmx", None):
        return redirect(request, reverse("clusters:sleep", args=[cluster_id]))
    cluster = clusters.get_cluster(actor=actor_of(request), cluster_id=cluster_id)
    return _show(request, cluster, trigger=toast(words, "good"))


@signed_in
@require_POST
def look_now(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Read the cluster and show what a sleep would stop."""
    look.request_look(actor=actor_of(request), cluster_id=cluster_id)
    return _after(request, cluster_id, "Reading the cluster.")


@signed_in
@require_POST
def sleep_now(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Order the sleep."""
    services.request_sleep(actor=actor_of(request), cluster_id=cluster_id, reason=request.POST.get("reason", "")[:300])
    return _after(request, cluster_id, "It falls asleep.")


@signed_in
@require_POST
def wake_now(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Order the wake."""
    services.request_wake(actor=actor_of(request), cluster_id=cluster_id, reason=request.POST.get("reason", "")[:300])
    return _after(request, cluster_id, "It wakes.")


@signed_in
@require_POST
def rules(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Change scope and protection."""
    actor = actor_of(request)
    actor.require(steering.MANAGE, "change how clusters sleep")
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    form = RulesForm(request.POST)
    if form.is_valid():
        try:
            services.set_rules(actor=actor, cluster_id=cluster_id, **form.rules(request.POST.getlist("groups")))
        except InvalidInput as wrong:
            for name, words in wrong.errors.items():
                form.add_error(name if name in form.fields else "scope", words)
        else:
            return _after(request, cluster_id, "Saved. It counts from the next sleep on.")
    return _show(request, cluster, form=form, status=422)


@signed_in
@require_GET
def restore_file(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """What wakes the cluster without Curfew's own record of it."""
    actor = actor_of(request)
    actor.require(steering.OPERATE, "take restore files")
    cluster = clusters.get_cluster(actor=actor, cluster_id=cluster_id)
    snapshot = services.open_snapshot(cluster)
    if snapshot is None:
        raise NotFound("It is awake: there is nothing to restore.")
    text = json.dumps(files.restore_file(snapshot), indent=1)
    response = HttpResponse(text, content_type="application/json")
    name = slugify(cluster.name) or "cluster"
    response["Content-Disposition"] = f'attachment; filename="restore-{name}-{snapshot.taken_at:%Y%m%d-%H%M}.json"'
    return response


@signed_in
@require_POST
def hand_over(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """Give the snapshot up: its restore file is in somebody's hands."""
    cluster = clusters.get_cluster(actor=actor_of(request), cluster_id=cluster_id)
    snapshot = services.open_snapshot(cluster)
    if snapshot is None:
        raise NotFound("It is awake: there is nothing to restore.")
    services.hand_over(actor=actor_of(request), snapshot_id=snapshot.id)
    return redirect(request, cluster.get_absolute_url())
