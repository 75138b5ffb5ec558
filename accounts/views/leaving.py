"""Settings, My data: deleting oneself."""

from __future__ import annotations

from allauth.account.internal.flows.reauthentication import raise_if_reauthentication_required
from django.contrib import messages
from django.contrib.auth import logout as end_session
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from accounts import selectors, services
from accounts.access import login_url
from accounts.facts import facts_of_request
from accounts.models import User
from core.errors import Conflict, InvalidInput
from core.htmx import render_page


@never_cache
@require_http_methods(["GET", "POST"])
def delete_me(request: HttpRequest) -> HttpResponse:
    """Say what goes and what stays; with the typed address, delete. Also for who belongs to no organization any more."""
    if not isinstance(request.user, User):
        return HttpResponseRedirect(login_url(request))
    raise_if_reauthentication_required(request, app="")
    user = request.user
    errors: dict[str, list[str]] = {}
    if request.method == "POST":
        try:
            services.delete_person(
                user=user, typed_email=request.POST.get("confirm_email", ""), facts=facts_of_request(request)
            )
        except InvalidInput as refused:
            errors = refused.errors
        except Conflict as refused:
            messages.error(request, refused.message)
            return HttpResponseRedirect(reverse("accounts:delete-me"))
        else:
            end_session(request)
            messages.success(request, "Your account is deleted.")
            return HttpResponseRedirect(reverse("accounts:login"))
    context = {
        "page_title": "Delete my account",
        "email": user.email,
        "typed": request.POST.get("confirm_email", ""),
        "errors": errors,
        "blockers": selectors.blockers_of_leaving(user),
        "houses": [m.organization.name for m in selectors.memberships_of(user)],
    }
    return render_page(request, "accounts/delete_me.html", context, status=422 if errors else 200)
