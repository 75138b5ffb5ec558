"""Pages: webhooks of tasks, what is repeated, and how long logs and figures are kept."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import htmx
from core.errors import InvalidInput
from taskrunner import selectors, services
from taskrunner.enums import PERMISSION_OPERATE
from taskrunner.forms import HookForm, KeepingForm
from taskrunner.views import actor_of


@require_http_methods(["GET", "POST"])
def hooks(request: HttpRequest) -> HttpResponse:
    """The webhooks, and a form for another; a new secret is shown once."""
    actor = actor_of(request)
    templates = selectors.list_templates(actor=actor)
    form = HookForm(
        request.POST if request.method == "POST" else None, templates=[(str(row.id), row.name) for row in templates]
    )
    made, secret = None, ""
    if request.method == "POST":
        actor.require(PERMISSION_OPERATE, "add task webhooks")
        if form.is_valid():
            found = form.cleaned_data
            try:
                made, secret = services.save_hook(
                    actor=actor,
                    name=found["name"],
                    template_id=UUID(found["template"]),
                    per_minute=found["per_minute"],
                )
            except InvalidInput as wrong:
                for name, words in wrong.errors.items():
                    form.add_error(name if name in form.fields else None, " ".join(words))
    context = {
        "page_title": "Task webhooks",
        "rows": selectors.list_hooks(actor=actor),
        "templates": templates,
        "form": form,
        "made": made,
        "secret": secret,
        "origin": f"{request.scheme}://{request.get_host()}",
        "may_operate": actor.can(PERMISSION_OPERATE),
    }
    return htmx.render_page(request, "taskrunner/hooks.html", context, status=422 if form.errors else 200)


@require_POST
def hook_delete(request: HttpRequest, hook_id: UUID) -> HttpResponse:
    """End a webhook."""
    services.delete_hook(actor=actor_of(request), hook_id=hook_id)
    return htmx.redirect(request, reverse("taskrunner:hooks"))


@require_GET
def schedules(request: HttpRequest) -> HttpResponse:
    """What is submitted again and again: when next, when last, and what went wrong."""
    actor = actor_of(request)
    context = {
        "page_title": "Repeated tasks",
        "rows": selectors.list_schedules(actor=actor),
        "may_operate": actor.can(PERMISSION_OPERATE),
    }
    return htmx.render_page(request, "taskrunner/schedules.html", context)


@require_POST
def schedule_delete(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Repeat it no more; what it submitted stays."""
    services.delete_schedule(actor=actor_of(request), schedule_id=schedule_id)
    return htmx.redirect(request, reverse("taskrunner:schedules"))


@require_POST
def template_delete(request: HttpRequest, template_id: UUID) -> HttpResponse:
    """Forget a template, and with it the webhooks that submit it."""
    services.delete_template(actor=actor_of(request), template_id=template_id)
    return htmx.redirect(request, reverse("taskrunner:new"))


@require_http_methods(["GET", "POST"])
def keeping(request: HttpRequest) -> HttpResponse:
    """How long logs and figures are kept, and what that takes."""
    actor = actor_of(request)
    size = selectors.volume(actor=actor)
    if actor.org_id is None:
        return htmx.redirect(request, reverse("taskrunner:workers"))
    row = services.settings_of(actor.org_id)
    stored = {"log_days": row.log_days, "sample_days": row.sample_days}
    form = KeepingForm(initial=stored)
    if request.method == "POST":
        form = KeepingForm(request.POST, initial=stored)
        if form.is_valid():
            services.save_keeping(actor=actor, **form.cleaned_data)
            return htmx.redirect(request, reverse("taskrunner:keeping"))
    context = {"page_title": "How long logs are kept", "form": form, "volume": size}
    return htmx.render_page(request, "taskrunner/keeping.html", context, status=422 if form.errors else 200)
