"""Pages of schedules: the list, a new one, and the command centre of one."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import signed_in
from core import clock
from core.actor import Actor
from core.errors import Conflict, CurfewError, InvalidInput, NotFound
from core.htmx import redirect, render_page
from hibernation import schedule as engine
from hibernation import selectors, services
from hibernation.enums import PERMISSION_MANAGE, PERMISSION_OPERATE, Order
from hibernation.forms import DaysForm, ScheduleForm, read_resources
from hibernation.models import Schedule

CURRENCY = "USD"
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
PAINT_PRESETS = (
    ("office", "Nights and weekends asleep"),
    ("weekend", "Only weekends asleep"),
    ("long", "Long days, 06:00 to 23:00"),
    ("always", "Always awake"),
    ("never", "Always asleep"),
)
DURATIONS = (("1h", "1 hour"), ("4h", "4 hours"), ("until_monday", "Until Monday"))


def _actor(request: HttpRequest) -> Actor:
    actor: Actor = request.actor  # type: ignore[attr-defined]
    return actor


def _timezone(request: HttpRequest) -> str:
    zone: str = request.organization.timezone  # type: ignore[attr-defined]
    return zone


@signed_in
@require_GET
def schedules(request: HttpRequest) -> HttpResponse:
    """Every schedule with its next change and what it saved this month."""
    actor = _actor(request)
    context = {
        "page_title": "Hibernation",
        "rows": selectors.list_schedules(actor=actor, timezone=_timezone(request)),
        "still_on": selectors.still_on(actor=actor),
        "may_manage": actor.can(PERMISSION_MANAGE),
        "currency": CURRENCY,
    }
    return render_page(request, "hibernation/list.html", context)


@signed_in
@require_http_methods(["GET", "POST"])
def create(request: HttpRequest) -> HttpResponse:
    """A new schedule: painted, named and saved in one form; its resources are chosen on its page."""
    actor = _actor(request)
    actor.require(PERMISSION_MANAGE, "make schedules")
    zone = _timezone(request)
    grid = engine.PRESETS["office_hours"].grid
    learned = _learned(request, None)
    initial = {"zone": zone, "prewarm": True, "enabled": True, "warn_minutes": 30}
    form = ScheduleForm(request.POST if request.method == "POST" else None, initial=initial)
    if request.method == "POST" and form.is_valid():
        saved = _save(request, form, None)
        if saved is not None:
            messages.success(request, f"{saved.name} is saved. Choose what follows it.")
            return redirect(request, saved.get_absolute_url())
    context = {
        "page_title": "New schedule",
        "form": form,
        "paint": _paint(_shown_grid(form, grid, learned), zone, zone, None),
        "learned": learned,
        "teachers": selectors.teachers(actor),
        "may_manage": True,
        "zones": sorted(engine.zone_names()),
    }
    return render_page(request, "hibernation/new.html", context, status=422 if form.errors else 200)


def _save(request: HttpRequest, form: ScheduleForm, old: Schedule | None) -> Schedule | None:
    """Save what the form holds; None when the service refuses, with its words in the form."""
    data = form.cleaned_data
    grid = data["grid"] or (old.grid if old else engine.PRESETS["office_hours"].grid.to_json())
    try:
        return services.save_schedule(
            actor=_actor(request),
            schedule_id=old.id if old else None,
            name=data["name"],
            zone=data["zone"],
            grid=grid,
            prewarm=data["prewarm"],
            night_belongs_to_start_day=old.night_belongs_to_start_day if old else True,
            enabled=data["enabled"],
            warn_minutes=data["warn_minutes"],
            warn_required=data["warn_required"] if data["warn_minutes"] is not None else None,
            leave_asleep=data["leave_asleep"],
        )
    except InvalidInput as wrong:
        form.refuse(wrong)
    except Conflict as refused:
        form.add_error(None, refused.message)
    return None


def _shown_grid(form: ScheduleForm, saved: engine.Grid, learned: selectors.Learned | None = None) -> engine.Grid:
    """What the grid shows: what was just sent, where that can be read; else a learned week; else what is saved."""
    if learned and learned.rows:
        saved = engine.Grid(learned.rows)
    try:
        return engine.Grid.from_json(str(form.data.get("week", "")).split(",")) if form.data.get("week") else saved
    except engine.InvalidSchedule:
        return saved


def _learned(request: HttpRequest, rate: Decimal | None) -> selectors.Learned | None:
    """The week of the cluster that `?learn=` names, to be painted but not saved yet."""
    text = request.GET.get("learn", "")
    try:
        return selectors.learned_week(actor=_actor(request), cluster_id=UUID(text), rate=rate) if text else None
    except ValueError:
        raise NotFound("There is no such cluster.") from None


def _paint(
    grid: engine.Grid, zone: str, viewer: str, rate: Decimal | None, saved: engine.Grid | None = None
) -> dict[str, Any]:
    """The paint grid: rows of cells (24 or 48 a day), and both clocks' hours."""
    now = clock.now()
    ahead = _offset(viewer) - _offset(zone)
    local = now.astimezone(ZoneInfo(zone))
    return {
        "rows": [(d, DAYS[d], _cells(row), _hours(row.count("1") * 24 / len(row))) for d, row in enumerate(grid.rows)],
        "cells": len(grid.rows[0]),
        "hours": [(f"{h:02d}", f"{(h * 60 + ahead) // 60 % 24:02d}") for h in range(24)],
        "by_hand": [(d, name, words) for d, (name, words) in enumerate(grid.describe())],
        "week": ",".join(grid.rows),
        "rate": rate,
        "saved": ",".join(saved.rows) if saved and saved != grid else "",
        "presets": PAINT_PRESETS,
        "zone_words": f"{zone}, UTC{local:%z}",
        "differs": ahead != 0,
    }


def _cells(row: str) -> list[tuple[int, str, str]]:
    """Number, clock and paint of each cell of a day."""
    minutes = 1440 // len(row)
    return [(n, f"{n * minutes // 60:02d}:{n * minutes % 60:02d}", v) for n, v in enumerate(row)]


def _hours(hours: float) -> str:
    return f"{hours:g}"


def _offset(zone: str) -> int:
    """Minutes ahead of UTC now."""
    offset = clock.now().astimezone(ZoneInfo(zone)).utcoffset()
    return round(offset.total_seconds() / 60) if offset else 0


@signed_in
@require_http_methods(["GET", "POST"])
def detail(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """The command centre of one schedule; a POST saves the painted week."""
    actor = _actor(request)
    row = selectors.get_schedule(actor=actor, schedule_id=schedule_id)
    facts = {
        name: getattr(row, name) for name in ("name", "zone", "prewarm", "enabled", "warn_minutes", "warn_required")
    }
    form = ScheduleForm(request.POST if request.method == "POST" else None, initial=facts)
    if request.method == "POST":
        actor.require(PERMISSION_MANAGE, "change schedules")
        if form.is_valid() and _save(request, form, row) is not None:
            messages.success(request, "Saved; it holds from now on.")
            return redirect(request, row.get_absolute_url())
    found = selectors.get_detail(actor=actor, schedule_id=schedule_id, timezone=_timezone(request))
    learned = _learned(request, found.rate)
    grid = _shown_grid(form, found.plan.grid, learned)
    context = {
        "page_title": found.schedule.name,
        "d": found,
        "run": found.run,
        "schedule": found.schedule,
        "form": form,
        "paint": _paint(grid, found.schedule.zone, _timezone(request), found.rate, found.plan.grid),
        "learned": learned,
        "teachers": selectors.teachers(actor),
        "durations": _durations(found),
        **_calendar(request, found.plan),
        "may_manage": actor.can(PERMISSION_MANAGE),
        "may_operate": actor.can(PERMISSION_OPERATE),
        "zones": sorted(engine.zone_names()),
        "countries": engine.holiday_countries(),
        "home_country": engine.country_of_zone(found.schedule.zone),
        "clock": _clock(found.next.seconds) if found.next else None,
        "currency": CURRENCY,
    }
    return render_page(request, "hibernation/detail.html", context, status=422 if form.errors else 200)


@signed_in
@require_POST
def preview(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """The days ahead, and the thirty behind, by the week that the form holds; nothing is saved."""
    actor = _actor(request)
    row = selectors.get_schedule(actor=actor, schedule_id=schedule_id)
    form = ScheduleForm({**request.POST.dict(), "name": row.name})
    form.full_clean()
    try:
        run = selectors.dry_run(
            actor=actor,
            schedule_id=row.id,
            timezone=_timezone(request),
            grid=form.cleaned_data.get("grid") or row.grid,
            zone=form.cleaned_data.get("zone") or row.zone,
            prewarm=bool(form.cleaned_data.get("prewarm")),
            enabled=bool(form.cleaned_data.get("enabled")),
        )
    except engine.InvalidSchedule:
        return HttpResponse(status=204)  # what is typed is not whole yet: the preview stays as it is
    return render(request, "hibernation/partials/_days14.html", {"run": run, "currency": CURRENCY, "schedule": row})


def _durations(found: selectors.Detail) -> list[tuple[str, str, Decimal | None]]:
    """How long to keep awake or asleep, with what that many hours awake cost."""
    now = clock.now()
    rows = []
    for key, label in DURATIONS:
        hours = Decimal(str((engine.expiry_for(found.plan, now, key) - now).total_seconds())) / 3600
        rows.append((key, label, None if found.rate is None else (found.rate * hours).quantize(Decimal("0.01"))))
    return rows


def _calendar(request: HttpRequest, plan: engine.Schedule) -> dict[str, Any]:
    """The year that `?year=` asks for, and the date that `?day=` opens."""
    today = clock.now().astimezone(ZoneInfo(plan.zone)).date()
    given = request.GET.get("year", "")
    try:
        day = date.fromisoformat(request.GET["day"]) if request.GET.get("day") else None
    except ValueError:
        day = None
    year = selectors.year_of(plan, int(given) if given.isdigit() else (day or today).year, today)
    rule = plan.calendar.rule_for(day) if day else None
    hours = rule.hours_words().replace("–", "-") if rule else ""
    return {
        "year": year,
        "day": day,
        "day_rule": rule,
        "day_hours": hours,
        "day_kinds": DaysForm.KINDS,
        "day_kind": "" if rule is None or rule.kind is engine.DayKind.NORMAL else rule.kind.value,
    }


def _clock(seconds: int) -> tuple[str, str, str]:
    return f"{seconds // 3600:02d}", f"{seconds // 60 % 60:02d}", f"{seconds % 60:02d}"


def _act(
    request: HttpRequest, schedule_id: UUID, act: Callable[[Actor, Schedule], str], back: str = ""
) -> HttpResponse:
    """Do one thing to a schedule the actor may see, say how it went, and show its page."""
    actor = _actor(request)
    row = selectors.get_schedule(actor=actor, schedule_id=schedule_id)
    try:
        messages.success(request, act(actor, row))
    except (Conflict, InvalidInput) as refused:
        words = [word for found in getattr(refused, "errors", {}).values() for word in found]
        messages.warning(request, " ".join(words) or refused.message)
        return redirect(request, row.get_absolute_url())
    return redirect(request, back or row.get_absolute_url())


@signed_in
@require_POST
def switch(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Wake or put to sleep everything on the schedule, or what `resources` names, for a while."""

    def act(actor: Actor, row: Schedule) -> str:
        actor.require(PERMISSION_OPERATE, "wake and put to sleep")
        until = _until(request, row.zone)
        order = Order.WAKE if request.POST.get("order") == Order.WAKE else Order.SLEEP
        named = read_resources(request.POST, "resources") or [
            (a.resource_kind, a.resource_id) for a in row.assignments.all()
        ]
        done, refused = 0, []
        for kind, resource_id in named:
            try:
                services.set_override(actor=actor, kind=kind, resource_id=resource_id, order=order, until=until)
                done += 1
            except InvalidInput:
                raise
            except CurfewError as error:
                refused.append(error.message)
        if refused or not done:
            raise Conflict(" ".join([f"{done} of {len(named)} ordered.", *refused[:3]]))
        return f"{done} {'waking' if order == Order.WAKE else 'falling asleep'}"

    return _act(request, schedule_id, act)


def _until(request: HttpRequest, zone: str) -> str:
    """How long: `for`, or `until` as a browser writes a local time, on the schedule's clock."""
    text = request.POST.get("until", "").strip()
    if not text:
        return request.POST.get("for", "")
    try:
        return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).isoformat()
    except ValueError:
        raise InvalidInput(errors={"until": ["Choose a date and a time."]}) from None


@signed_in
@require_POST
def switch_one(request: HttpRequest, kind: str, resource_id: UUID) -> HttpResponse:
    """Wake, put to sleep, or put off the sleep of one resource, whatever schedule it follows."""
    actor = _actor(request)
    order, until = request.POST.get("order", ""), request.POST.get("for", "")
    back = reverse("hibernation:why", args=[kind, resource_id])
    try:
        if order == Order.SNOOZE:
            services.snooze(actor=actor, kind=kind, resource_id=resource_id, until=until or "1h")
            messages.success(request, "Its next sleep is put off")
        else:
            wanted = Order.SLEEP if order == Order.SLEEP else Order.WAKE
            services.set_override(actor=actor, kind=kind, resource_id=resource_id, order=wanted, until=until)
            messages.success(request, "It is falling asleep" if wanted == Order.SLEEP else "It is waking")
    except (Conflict, InvalidInput) as refused:
        words = [word for found in getattr(refused, "errors", {}).values() for word in found]
        messages.warning(request, " ".join(words) or refused.message)
    return redirect(request, back)


@signed_in
@require_POST
def days(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Give one date or several a rule of their own: holiday, sprint day, own hours, or as painted."""
    form = DaysForm(request.POST)

    def act(actor: Actor, row: Schedule) -> str:
        actor.require(PERMISSION_MANAGE, "change schedules")
        if not form.is_valid():
            raise InvalidInput(errors={name: [str(word) for word in words] for name, words in form.errors.items()})
        services.set_days(actor=actor, schedule_id=row.id, **form.cleaned_data)
        return "The calendar is changed"

    year = request.POST.get("first", "")[:4]
    where = reverse("hibernation:detail", args=[schedule_id])
    return _act(request, schedule_id, act, f"{where}?year={year}#year" if year.isdigit() else f"{where}#year")


@signed_in
@require_POST
def resources(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Put resources on the schedule (`add`) and take others off it (`remove`)."""

    def act(actor: Actor, row: Schedule) -> str:
        actor.require(PERMISSION_MANAGE, "put resources on schedules")
        added = services.assign(actor=actor, schedule_id=row.id, resources=read_resources(request.POST, "add"))
        removed = services.unassign(actor=actor, schedule_id=row.id, resources=read_resources(request.POST, "remove"))
        return f"{added} put on {row.name}, {removed} taken off"

    return _act(request, schedule_id, act)


@signed_in
@require_POST
def holidays(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Import a country's public holidays."""

    def act(actor: Actor, row: Schedule) -> str:
        country, region = request.POST.get("country", ""), request.POST.get("subdivision", "").strip()
        _, added = services.import_holidays(actor=actor, schedule_id=row.id, country=country, subdivision=region)
        return f"{added} holidays added"

    return _act(request, schedule_id, act)


@signed_in
@require_POST
def delete(request: HttpRequest, schedule_id: UUID) -> HttpResponse:
    """Wake what sleeps because of the schedule (or leave it so, when asked), then delete it."""

    def act(actor: Actor, row: Schedule) -> str:
        leave = request.POST.get("leave_asleep") == "yes"
        services.delete_schedule(actor=actor, schedule_id=row.id, leave_asleep=leave)
        return f"{row.name} is deleted"

    return _act(request, schedule_id, act, reverse("hibernation:list"))
