"""Pages of workers: cards, one worker, joining, the queue, limits of people."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import services as accounts
from core import htmx, sleepable
from core.actor import Actor
from core.errors import InvalidInput
from taskrunner import selectors, services, viewing
from taskrunner.enums import PERMISSION_MANAGE, WORKERS_MANAGE, WORKERS_OPERATE, Status
from taskrunner.forms import EnrolForm, LimitForm, WorkerForm
from taskrunner.models import Quota, Worker
from taskrunner.views import actor_of


def _cards(lines: list[selectors.WorkerLine]) -> list[dict[str, Any]]:
    return [{"line": line, "badge": viewing.health(line)} for line in lines]


@require_GET
def worker_list(request: HttpRequest) -> HttpResponse:
    """Every worker as a card with its bars."""
    actor = actor_of(request)
    lines = selectors.list_workers(actor=actor)
    context = {
        "page_title": "Workers",
        "cards": _cards(lines),
        "topology": viewing.topology(lines),
        "busiest": max((line.running for line in lines), default=0),
        "may_manage": actor.can(WORKERS_MANAGE),
        "may_enrol": actor.can("agents.manage"),
    }
    return htmx.render_page(request, "taskrunner/workers.html", context, fragment="cards")


@require_http_methods(["GET", "POST"])
def enrol(request: HttpRequest) -> HttpResponse:
    """Make a token and show the command that makes a machine a worker."""
    actor = actor_of(request)
    actor.require("agents.manage", "add workers")
    form, token = EnrolForm(request.POST or None), ""
    if request.method == "POST" and form.is_valid():
        found = form.cleaned_data
        _, token = accounts.create_enrolment_token(actor=actor, kind="worker", name=found["name"], hours=found["hours"])
    context = {
        "page_title": "Add a worker",
        "form": form,
        "token": token,
        "origin": f"{request.scheme}://{request.get_host()}",
    }
    return htmx.render_page(request, "taskrunner/enrol.html", context, status=422 if form.errors else 200)


@require_GET
def worker_detail(request: HttpRequest, worker_id: UUID) -> HttpResponse:
    """One worker: capacity, what runs on it, figures over time, settings."""
    actor = actor_of(request)
    worker = selectors.get_worker(actor=actor, worker_id=worker_id)
    return _detail(request, actor, worker, WorkerForm(worker=worker, machines=_machines(actor)))


def _machines(actor: Actor) -> list[tuple[str, str]]:
    return [(f"{view.kind}:{view.id}", f"{view.name}, {view.detail}") for view in sleepable.list_all(actor)]


def _detail(request: HttpRequest, actor: Actor, worker: Worker, form: WorkerForm, status: int = 200) -> HttpResponse:
    line = selectors.list_workers(actor=actor, ids=[worker.id])[0]
    grid = selectors.task_grid(actor=actor, filters=selectors.Filters(worker=worker.id), size=25)
    context = {
        "page_title": worker.name,
        "worker": worker,
        "line": line,
        "badge": viewing.health(line),
        "rows": [viewing.row(task) for task in grid.page.object_list],
        "charts": viewing.charts(selectors.history(actor=actor, worker_id=worker.id), "worker"),
        "form": form,
        "may_operate": actor.can(WORKERS_OPERATE),
        "may_manage": actor.can(WORKERS_MANAGE),
    }
    return htmx.render_page(request, "taskrunner/worker.html", context, fragment="worker", status=status)


@require_POST
def worker_change(request: HttpRequest, worker_id: UUID) -> HttpResponse:
    """Open, cordon or drain it; or save its settings."""
    actor = actor_of(request)
    worker = selectors.get_worker(actor=actor, worker_id=worker_id)
    if "only" in request.POST:
        services.save_worker(actor=actor, worker_id=worker_id, changes={"wanted": request.POST["only"]})
        return htmx.redirect(request, worker.get_absolute_url())
    form = WorkerForm(request.POST, worker=worker, machines=_machines(actor))
    if form.is_valid():
        try:
            services.save_worker(actor=actor, worker_id=worker_id, changes=form.changes())
            return htmx.redirect(request, worker.get_absolute_url())
        except InvalidInput as wrong:
            for name, words in wrong.errors.items():
                form.add_error(name if name in form.fields else None, " ".join(words))
    return _detail(request, actor, worker, form, status=422)


@require_POST
def worker_remove(request: HttpRequest, worker_id: UUID) -> HttpResponse:
    """Forget it and end its token."""
    services.remove_worker(actor=actor_of(request), worker_id=worker_id)
    return htmx.redirect(request, reverse("taskrunner:workers"))


@require_GET
def queue(request: HttpRequest) -> HttpResponse:
    """What waits, in the order in which it is taken, and why; counts of the organization."""
    actor = actor_of(request)
    actor.require(PERMISSION_MANAGE, "see the queue")
    filters = selectors.Filters(status="pending", sort="-priority")
    grid = selectors.task_grid(actor=actor, filters=filters, size=100)
    context = {
        "page_title": "Queue",
        "stats": selectors.stats(actor=actor),
        "statuses": [(s.label, str(s)) for s in Status],
        "rows": [viewing.row(task) for task in grid.page.object_list],
        "total": grid.page.paginator.count,
    }
    return htmx.render_page(request, "taskrunner/queue.html", context, fragment="queue")


@require_http_methods(["GET", "POST"])
def limits(request: HttpRequest) -> HttpResponse:
    """Limits of each member and of all together."""
    actor = actor_of(request)
    actor.require(WORKERS_MANAGE, "set task limits")
    people = selectors.list_quotas(actor=actor)
    wrong: dict[str, LimitForm] = {}
    if request.method == "POST":
        prefix = request.POST.get("row", "all")
        form = LimitForm(request.POST, prefix=prefix)
        if form.is_valid():
            services.save_quota(actor=actor, user_id=form.cleaned_data["user"], limits=form.limits())
            return htmx.redirect(request, reverse("taskrunner:limits"))
        wrong[prefix] = form
    everybody = Quota.objects.visible_to(actor).filter(user=None).first()
    rows = [{"name": "Everybody together", "email": "", "prefix": "all", "form": LimitForm.of(everybody, None, "all")}]
    for person in people:
        prefix = f"u{person['user_id']}"
        rows.append({**person, "prefix": prefix, "form": LimitForm.of(person["quota"], person["user_id"], prefix)})
    for row in rows:
        row["form"] = wrong.get(str(row["prefix"]), row["form"])
    context = {"page_title": "Task limits", "rows": rows}
    return htmx.render_page(request, "taskrunner/limits.html", context, status=422 if wrong else 200)
