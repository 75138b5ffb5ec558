"""Pages of tasks: the list, submitting, one task with its log, a wall of several."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import htmx
from core.actor import Actor
from core.errors import InvalidInput, NotSignedIn
from taskrunner import selectors, services, viewing
from taskrunner.enums import PERMISSION_MANAGE, PERMISSION_OPERATE
from taskrunner.forms import TaskForm, initial_of
from taskrunner.models import Attempt, Task
from taskrunner.placing import Resources, Wish

SIZES = (25, 50, 100, 200)
FIRST_LINES = 400
WALL_LINES = 60


def actor_of(request: HttpRequest) -> Actor:
    """Who asks; raises NotSignedIn for a visitor or a person without an organization."""
    actor: Actor | None = getattr(request, "actor", None)
    if actor is None:
        raise NotSignedIn("Log in to see this page.")
    return actor


def _link(query: QueryDict, **changes: str) -> str:
    kept = query.copy()
    kept.pop("page", None)
    for key, value in changes.items():
        kept.pop(key, None)
        if value:
            kept[key] = value
    return f"?{kept.urlencode()}"


def _toolbar(request: HttpRequest, grid: selectors.TaskGrid, filters: selectors.Filters) -> dict[str, Any]:
    status = [
        {"label": p.label, "count": p.count, "current": p.current, "url": _link(request.GET, status=p.key)}
        for p in grid.pills
    ]
    whose = [
        {"label": label, "count": None, "current": filters.whose == key,
         "url": _link(request.GET, whose=key, owner="")}
        for key, label in (("", "Everybody's" if actor_of(request).can(PERMISSION_MANAGE) else "Mine and shared"),
                           ("mine", "Mine"), ("shared", "Shared"))
    ]  # fmt: skip
    if filters.owner:
        newest = next(iter(grid.page.object_list), None)
        one = {"label": newest.owner_label if newest else "One person", "count": None}
        whose = [*({**each, "current": False} for each in whose), {**one, "current": True, "url": _link(request.GET)}]
    return {
        "url": reverse("taskrunner:tasks"),
        "target": "#tasks-grid",
        "search": filters.search,
        "param": "q",
        "search_label": "Search id, name, image, person",
        "filters": [{"label": "Status", "options": status}, {"label": "Whose", "options": whose}],
        "noun": "tasks",
    }


@require_GET
def task_list(request: HttpRequest) -> HttpResponse:
    """The tasks that the person may see; the address holds the whole state of the list."""
    actor = actor_of(request)
    given = request.GET.get("page_size", "")
    size = int(given) if given in {str(s) for s in SIZES} else 50
    filters = selectors.Filters(
        search=request.GET.get("q", "").strip()[:200],
        status=request.GET.get("status", ""),
        whose=request.GET.get("whose", ""),
        owner=_uuid(request.GET["owner"]) if request.GET.get("owner") else None,
        sort=request.GET.get("sort", "-created"),
    )
    grid = selectors.task_grid(actor=actor, filters=filters, number=request.GET.get("page", "1"), size=size)
    context = {
        "page_title": "Tasks",
        "rows": [viewing.row(task) for task in grid.page.object_list],
        "page": grid.page,
        "active": grid.active,
        "grid": _toolbar(request, grid, filters),
        "sizes": SIZES,
        "size": size,
        "may_submit": actor.can(PERMISSION_OPERATE),
        "narrowed": bool(filters.search or filters.status or filters.whose or filters.owner),
    }
    return htmx.render_page(request, "taskrunner/tasks.html", context, fragment="grid")


@require_http_methods(["GET", "POST"])
def task_new(request: HttpRequest) -> HttpResponse:
    """Submit a task: empty, from a template, or from an earlier task."""
    actor = actor_of(request)
    actor.require(PERMISSION_OPERATE, "submit tasks")
    tasks = selectors.pending_of(actor=actor)
    if request.method == "POST":
        form = TaskForm(request.POST, tasks=tasks)
        if form.is_valid():
            try:
                return _submitted(request, actor, form)
            except InvalidInput as wrong:
                form.take_errors(wrong)
        return _form(request, actor, form, status=422)
    source: Any = None
    if request.GET.get("template"):
        source = selectors.get_template(actor=actor, template_id=_uuid(request.GET["template"]))
    elif request.GET.get("from"):
        source = selectors.get_task(actor=actor, task_id=_uuid(request.GET["from"]))
    return _form(request, actor, TaskForm(initial=initial_of(source), tasks=tasks))


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        return UUID(int=0)


def _submitted(request: HttpRequest, actor: Actor, form: TaskForm) -> HttpResponse:
    fields = form.fields_given()
    if "estimate" in request.POST:
        return _form(request, actor, form, estimate=_estimate(actor, fields))
    found = form.cleaned_data
    if found["cron"]:
        if found["needs"]:
            raise InvalidInput(errors={"needs": ["What is repeated waits for no other task."]})
        zone = found["zone"] or "UTC"
        services.save_schedule(actor=actor, name=found["name"], cron=found["cron"], zone=zone, fields=fields)
        address = reverse("taskrunner:schedules")
    else:
        needs = [UUID(text) for text in found["needs"]]
        address = services.submit(actor=actor, fields=fields, needs=needs).get_absolute_url()
    if form.cleaned_data["template"]:
        services.save_template(actor=actor, name=form.cleaned_data["template"], fields=fields)
    return htmx.redirect(request, address)


def _estimate(actor: Actor, fields: dict[str, Any]) -> selectors.Estimate:
    facts = services.check(fields)
    wish = Wish(Resources(facts["cpu"], facts["memory"], facts["storage"], facts["gpus"]), facts["labels"])
    return selectors.estimate(actor=actor, image=facts["image"], command=facts["command"], wish=wish)


def _form(
    request: HttpRequest, actor: Actor, form: TaskForm, *, status: int = 200, estimate: selectors.Estimate | None = None
) -> HttpResponse:
    context = {
        "page_title": "New task",
        "form": form,
        "estimate": estimate,
        "templates": selectors.list_templates(actor=actor),
    }
    return htmx.render_page(request, "taskrunner/new.html", context, fragment="form", status=status)


@require_GET
def task_detail(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """One task: state with its reason, log, figures, attempts."""
    actor = actor_of(request)
    return _detail(request, actor, selectors.get_task(actor=actor, task_id=task_id))


def _detail(request: HttpRequest, actor: Actor, task: Task) -> HttpResponse:
    attempts = list(Attempt.objects.filter(task=task).order_by("-number"))
    asked = request.GET.get("attempt", "")
    attempt = selectors.attempt_of(task, int(asked) if asked.isdecimal() and len(asked) < 9 else None)
    view = selectors.log_lines(attempt=attempt, first=-FIRST_LINES, count=FIRST_LINES)
    charts = viewing.charts(selectors.task_history(task=task), "task")
    context = {
        "page_title": task.name,
        "task": task,
        "badge": viewing.badge(task),
        "seconds": viewing.seconds(task),
        "waiting_for": selectors.why_waiting(actor=actor, task=task),
        "attempts": attempts,
        "attempt": attempt,
        "log": view,
        "rows": viewing.log_rows(view),
        "charts": charts,
        "gpu_unknown": task.gpus and not any(chart["title"] == "GPU" for chart in charts),
        "may_change": selectors.may_change(actor, task),
        "cost": selectors.cost_of(task, attempts),
        "neighbours": [
            (word, [viewing.row(one) for one in tasks]) for word, tasks in _neighbours(actor, task) if tasks
        ],
    }
    return htmx.render_page(request, "taskrunner/task.html", context, fragment=_fragment(request))


def _neighbours(actor: Actor, task: Task) -> list[tuple[str, list[Task]]]:
    found = selectors.neighbours(actor=actor, task=task)
    return [("Runs after", found.needs), ("Then runs", found.needed_by)]


def _fragment(request: HttpRequest) -> str:
    """The state and the figures are fetched apart, so that a re-fetch never touches the log."""
    return "figures" if request.headers.get("HX-Target", "").endswith("task-figures") else "state"


@require_POST
def task_cancel(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Ask it to stop."""
    task = services.cancel(actor=actor_of(request), task_id=task_id)
    return htmx.redirect(request, task.get_absolute_url())


@require_POST
def task_retry(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Submit it once more."""
    return htmx.redirect(request, services.retry(actor=actor_of(request), task_id=task_id).get_absolute_url())


@require_POST
def task_share(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Let everybody of the organization see it, or not."""
    wanted = request.POST.get("shared") == "on"
    task = services.set_shared(actor=actor_of(request), task_id=task_id, shared=wanted)
    return htmx.redirect(request, task.get_absolute_url())


@require_POST
def task_delete(request: HttpRequest, task_id: UUID) -> HttpResponse:
    """Delete it with its log."""
    services.delete(actor=actor_of(request), task_id=task_id)
    return htmx.redirect(request, reverse("taskrunner:tasks"))


@require_GET
def task_wall(request: HttpRequest) -> HttpResponse:
    """Several tasks beside each other, each with the end of its log."""
    actor = actor_of(request)
    ids = [_uuid(text) for text in request.GET.getlist("task")[:12]]
    tiles = []
    for task in selectors.wall(actor=actor, ids=ids):
        attempt = selectors.attempt_of(task)
        view = selectors.log_lines(attempt=attempt, first=-WALL_LINES, count=WALL_LINES)
        tiles.append(
            {
                **viewing.row(task),
                "rows": viewing.log_rows(view),
                "log": view,
                "attempt": attempt,
                "log_id": f"log-{task.id}",
            }
        )
    return htmx.render_page(request, "taskrunner/wall.html", {"page_title": "Wall of tasks", "tiles": tiles})
