"""Settings, Agents: the tokens of machines, workers and clusters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST

from accounts import selectors, services
from accounts.access import caller_of, signed_in
from accounts.forms import EnrolForm, show_error
from accounts.views.common import done, settings_page
from core.errors import InvalidInput


def _page(request: HttpRequest, *, status: int = 200, **more: Any) -> HttpResponse:
    context = {
        "page_title": "Agents",
        "agents": selectors.list_agents(actor=caller_of(request).actor),
        "form": EnrolForm(),
        **more,
    }
    return settings_page(request, "accounts/agents.html", context, fragment="agents", status=status)


@signed_in
@require_http_methods(["GET", "POST"])
def agents(request: HttpRequest) -> HttpResponse:
    """List the tokens, or make one that enrols agents; its text is on the answering page and nowhere else."""
    if request.method == "GET":
        return _page(request)
    actor = caller_of(request).actor
    actor.require("agents.manage", "enrol agents")
    form = EnrolForm(request.POST)
    if not form.is_valid():
        return _page(request, status=422, form=form)
    try:
        row, text = services.create_enrolment_token(actor=actor, **form.cleaned_data)
    except InvalidInput as refused:
        show_error(form, refused)
        return _page(request, status=422, form=form)
    return _page(request, status=201, made=row, made_text=text)


@require_POST
@signed_in
def agent_revoke(request: HttpRequest, token_id: UUID) -> HttpResponse:
    """End a token at once."""
    row = services.revoke_agent_token(actor=caller_of(request).actor, token_id=token_id)
    return done(request, reverse("accounts:agents"), f"The token {row.name} is revoked.")
