"""The page behind the link of a warning. Looking changes nothing, so that no preview of a link can put off a sleep."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from core.errors import InvalidInput, InvalidState
from hibernation.services import snoozing

CHOICES = (("1h", "1 hour"), ("2h", "2 hours"), ("4h", "4 hours"), ("until_tomorrow", "Until midnight"))


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def snooze(request: HttpRequest, token: str) -> HttpResponse:
    """GET says what is about to sleep; POST puts it off. Needs no sign-in: the link is the permission."""
    context: dict[str, object] = {"page_title": "Put off the sleep", "choices": CHOICES}
    status = 200
    if request.method == "POST":
        try:
            count, until = snoozing.snooze_by_link(
                token=token, until=request.POST.get("for", "1h"), actor=getattr(request, "actor", None)
            )
            context |= {"count": count, "until": until}
        except InvalidState as late:
            context["refused"], status = late.message, 409
        except InvalidInput as wrong:
            context["refused"], status = " ".join(w for words in wrong.errors.values() for w in words), 422
    ahead = snoozing.look_ahead(token)
    zone = ahead.schedule.plan().zone
    context |= {"ahead": ahead, "zone": zone}
    return render(request, "hibernation/snooze.html", context, status=status)
