"""Telling the audit log about refusals: one place for pages, the API and sockets.

Whatever `Actor.require` refuses while a request is answered is remembered, also when the view goes on without it, and
told once the view's transactions are over: a line that was rolled back with them would tell nothing. Repeats of the same
refusal within ten minutes are told at the 1st, 10th, 100th … time, and one caller fills at most sixty lines an hour, so
that a flood says how large it was without filling the log.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.db import DatabaseError
from django.http import HttpRequest

from core import hooks, request_context
from core.actor import Actor
from core.broker import away
from core.errors import Forbidden

log = logging.getLogger(__name__)
SAME_SECONDS = 600
LINES_AN_HOUR = 60


@contextmanager
def told(request: HttpRequest) -> Iterator[None]:
    """Around the answer to a request: its refusals become lines when it ends."""
    token = request_context.refusals.set([])
    try:
        yield
    finally:
        met = request_context.refusals.get() or []
        request_context.refusals.reset(token)
        for actor, permission, what in met:
            _tell(actor, permission, what, _place(request))


def note(error: Exception, actor: object, where: str = "") -> None:
    """A refusal that became an answer: told at the end of the request, or now when there is none (sockets)."""
    if not isinstance(actor, Actor):
        return
    if isinstance(error, Forbidden):
        permission, what = str(error.extra.get("permission", "")), error.wanted or error.message
    elif isinstance(error, PermissionDenied) or getattr(error, "status_code", 0) == 403:
        permission, what = "", str(error) or "This is not for this caller."
    else:
        return
    if not request_context.refused(actor, permission, what):
        _tell(actor, permission, what, where)


def _tell(actor: Actor, permission: str, what: str, where: str) -> None:
    """Emit `access_denied`. A log that cannot be written never turns a 403 into a 500."""
    times = _worth_a_line(actor, f"{permission} {what} {where}")
    if not times:
        return
    try:
        hooks.access_denied.emit(actor=actor, permission=permission, what=what, where=where, times=times)
    except DatabaseError:
        log.exception("denial_not_recorded", extra={"actor": actor.id})


def _worth_a_line(actor: Actor, refusal: str) -> int:
    """How often this was refused lately when that is worth a line, else 0."""
    caller = f"{actor.org_id} {actor.kind} {actor.id}"
    times = _count(f"{caller} {refusal}", SAME_SECONDS)
    if not _is_round(times):
        return 0
    lines = _count(caller, 3600)
    return times if lines <= LINES_AN_HOUR or _is_round(lines) else 0


def _count(name: str, seconds: int) -> int:
    """How often `name` was counted within the seconds; 1 when the cache is away: then every refusal is worth a line."""
    key = f"denied:{hashlib.sha256(name.encode()).hexdigest()[:40]}"
    try:
        return 1 if cache.add(key, 1, seconds) else int(cache.incr(key))
    except ValueError:  # it ran out just now
        return 1
    except away() as down:
        log.warning("denials_not_counted", extra={"reason": type(down).__name__})
        return 1


def _is_round(number: int) -> bool:
    """1, 10, 100 and so on."""
    return str(number).strip("0") == "1"


def _place(request: HttpRequest) -> str:
    """`POST clusters/<uuid:cluster_id>/wake, cluster_id 3f…`: the route and never the path, which may hold a secret link."""
    match = request.resolver_match
    if match is None:
        return ""
    ids = [f", {name} {value}" for name, value in match.kwargs.items() if isinstance(value, UUID)]
    return f"{request.method} /{match.route}{''.join(ids)}"
