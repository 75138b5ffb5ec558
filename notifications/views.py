"""Settings: channels, one's own e-mails and browsers, messages that were given up, the way out."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import caller_of, signed_in
from accounts.forms import show_error
from accounts.views.common import done, settings_page
from accounts.views.security import browser_name
from core.errors import CurfewError, InvalidInput
from core.htmx import redirect
from notifications import selectors, services, webpush
from notifications.enums import State
from notifications.forms import ChannelEditForm, ChannelForm, PreferenceForm
from notifications.services.channels import MANAGE


def _page(request: HttpRequest, *, status: int = 200, **changed: Any) -> HttpResponse:
    actor = caller_of(request).actor
    context = {
        "page_title": "Channels",
        "channels": selectors.channels(actor=actor),
        "form": ChannelForm(prefix="channel"),
        "dead": selectors.dead_count(actor=actor),
        "may_manage": actor.can(MANAGE),
        **changed,
    }
    return settings_page(request, "notifications/settings.html", context, status=status)


def _mine(request: HttpRequest, *, status: int = 200, form: PreferenceForm | None = None) -> HttpResponse:
    caller = caller_of(request)
    kept = selectors.preference(actor=caller.actor)
    initial = {
        name: getattr(kept, name) for name in ("enabled", "push_enabled", "digest_minutes", "quiet_start", "quiet_end")
    }
    shown = form or PreferenceForm(initial=initial, prefix="mine")
    emails, pushes = kept.events, kept.push_events
    if form is not None:
        emails, pushes = request.POST.getlist("mine-events") or ["-"], request.POST.getlist("mine-push_events") or ["-"]
    context = {
        "page_title": "My notifications",
        "form": shown,
        "wishes": selectors.wishes(emails=emails, pushes=pushes),
        "browsers": selectors.browsers(actor=caller.actor),
        "push_key": webpush.public_key(),
        "email": caller.user.email,
        "zone": caller.user.timezone or caller.organization.timezone,
    }
    return settings_page(request, "notifications/mine.html", context, status=status)


@signed_in
@require_safe
def settings(request: HttpRequest) -> HttpResponse:
    """The page."""
    return _page(request)


@require_POST
@signed_in
def channel_add(request: HttpRequest) -> HttpResponse:
    """Add a channel; a webhook's signing secret is shown on the answer, this once."""
    caller = caller_of(request)
    caller.actor.require(MANAGE, "add notification channels")
    form = ChannelForm(request.POST, prefix="channel")
    if not form.is_valid():
        return _page(request, status=422, form=form)
    try:
        channel, secret = services.add_channel(actor=caller.actor, **form.facts(caller.organization.timezone))
    except InvalidInput as refused:
        show_error(form, refused)
        return _page(request, status=422, form=form)
    if secret:
        return _page(request, made=channel, made_secret=secret)
    return done(request, reverse("notifications:settings"), f"{channel.name} is added. Send it a test message.")


@require_POST
@signed_in
def channel_change(request: HttpRequest, channel_id: UUID, what: str) -> HttpResponse:
    """`what` is test, on, off or remove."""
    actor = caller_of(request).actor
    back = reverse("notifications:settings")
    if what == "test":
        row = services.test_channel(actor=actor, channel_id=channel_id)
        if row.state == State.SENT:
            return done(request, back, "The test message was delivered.")
        messages.error(request, f"The test message was not delivered. {row.error}")
        return redirect(request, back)
    if what in {"on", "off"}:
        channel = services.set_channel_enabled(actor=actor, channel_id=channel_id, enabled=what == "on")
        return done(request, back, f"{channel.name} is {what}.")
    if what == "remove":
        services.remove_channel(actor=actor, channel_id=channel_id)
        return done(request, back, "The channel is removed.")
    raise Http404


@signed_in
@require_http_methods(["GET", "POST"])
def channel_edit(request: HttpRequest, channel_id: UUID) -> HttpResponse:
    """What a channel hears and when."""
    actor = caller_of(request).actor
    channel = selectors.get_channel(actor=actor, channel_id=channel_id)
    actor.require(MANAGE, "change notification channels")
    names = ("name", "events", "digest_minutes", "quiet_start", "quiet_end", "hourly_limit")
    form = ChannelEditForm(request.POST or None, initial={name: getattr(channel, name) for name in names})
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                changed = services.change_channel(actor=actor, channel_id=channel_id, **form.cleaned_data)
            except InvalidInput as refused:
                show_error(form, refused)
            else:
                return done(request, reverse("notifications:settings"), f"{changed.name} is saved.")
    context = {"page_title": f"Channel {channel.name}", "channel": channel, "form": form}
    return settings_page(request, "notifications/channel.html", context, status=status)


@signed_in
@require_safe
def mine(request: HttpRequest) -> HttpResponse:
    """One's own e-mails and browsers."""
    return _mine(request)


@require_POST
@signed_in
def preferences(request: HttpRequest) -> HttpResponse:
    """Save one's own wishes."""
    caller = caller_of(request)
    form = PreferenceForm(request.POST, prefix="mine")
    if not form.is_valid():
        return _mine(request, status=422, form=form)
    try:
        services.save_preference(actor=caller.actor, **form.facts())
    except InvalidInput as refused:
        show_error(form, refused)
        return _mine(request, status=422, form=form)
    return done(request, reverse("notifications:mine"), "Your wishes are saved.")


@require_POST
@signed_in
def browser_add(request: HttpRequest) -> HttpResponse:
    """A subscription that the script of the page got from the browser: 201, or a problem as JSON."""
    asked = {name: request.POST.get(name, "") for name in ("endpoint", "p256dh", "auth")}
    try:
        services.add_browser(
            actor=caller_of(request).actor, browser=browser_name(request.headers.get("User-Agent", "")), **asked
        )
    except CurfewError as refused:
        words = [w for each in getattr(refused, "errors", {}).values() for w in each]
        return JsonResponse({"detail": " ".join(words) or refused.message}, status=refused.status)
    messages.success(request, "This browser shows notifications from now on.")
    return HttpResponse(status=201)


@require_POST
@signed_in
def browser_change(request: HttpRequest, browser_id: UUID, what: str) -> HttpResponse:
    """`what` is test or remove."""
    actor = caller_of(request).actor
    back = reverse("notifications:mine")
    if what == "remove":
        services.remove_browser(actor=actor, browser_id=browser_id)
        return done(request, back, "The browser is removed.")
    if what != "test":
        raise Http404
    row = services.test_browser(actor=actor, browser_id=browser_id)
    if row is not None and row.state == State.SENT:
        return done(request, back, "The test message is on its way to the browser.")
    messages.error(
        request,
        f"The test message was not delivered. {row.error}"
        if row
        else "That browser takes no messages any more; it was removed.",
    )
    return redirect(request, back)


@signed_in
@require_safe
def messages_page(request: HttpRequest) -> HttpResponse:
    """The newest messages, or (?dead=1) those that were given up."""
    actor = caller_of(request).actor
    dead = request.GET.get("dead") == "1"
    context = {
        "page_title": "Messages",
        "rows": selectors.deliveries(actor=actor, dead=dead),
        "dead": dead,
        "dead_count": selectors.dead_count(actor=actor),
        "may_manage": actor.can(MANAGE),
    }
    return settings_page(request, "notifications/messages.html", context)


@require_POST
@signed_in
def message_retry(request: HttpRequest, delivery_id: UUID) -> HttpResponse:
    """Put one back into the outbox."""
    services.retry_delivery(actor=caller_of(request).actor, delivery_id=delivery_id)
    return done(request, reverse("notifications:messages"), "The message is sent again.")


@csrf_exempt  # mail programs send the one-click POST; the signed token can do nothing but end these e-mails
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: HttpRequest, token: str) -> HttpResponse:
    """The link of an e-mail: GET asks, POST ends the e-mails. Needs no sign-in."""
    address = services.stop(token=token, really=request.method == "POST")
    context = {"page_title": "Stop e-mails", "address": address, "stopped": request.method == "POST"}
    return render(request, "notifications/stop.html", context)
