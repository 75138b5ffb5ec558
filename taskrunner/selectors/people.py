"""People with what their tasks come to, and what happened to tasks and workers: for admins."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Count, DurationField, ExpressionWrapper, F, Q, QuerySet, Sum
from django.db.models.functions import Length

from accounts.models import Membership
from audit import selectors as audit
from core import clock
from core.actor import Actor
from core.errors import NotFound
from taskrunner import storage
from taskrunner.enums import HELD, PENDING, PERMISSION_MANAGE, WORKERS_MANAGE, Status
from taskrunner.models import LogPiece, Quota, Task

_ABOUT = Q(verb__startswith="task") | Q(verb__startswith="worker.") | Q(verb__startswith="job_pool.")


def list_people(*, actor: Actor, user_id: UUID | None = None) -> list[dict[str, Any]]:
    """Members with their role, limits, tasks by outcome and hours that their tasks ran. In three queries."""
    actor.require(PERMISSION_MANAGE, "see what people run")
    actor.require("members.view", "see members")
    members = Membership.objects.visible_to(actor).select_related("user").order_by("user__email")
    if user_id is not None:
        members = members.filter(user_id=user_id)
    ran = ExpressionWrapper(F("finished_at") - F("started_at"), output_field=DurationField())
    rows = Task.objects.visible_to(actor).order_by().values("owner_id")
    sums = {
        row["owner_id"]: row
        for row in rows.annotate(
            running=Count("id", filter=Q(status__in=HELD)),
            waiting=Count("id", filter=Q(status__in=PENDING)),
            succeeded=Count("id", filter=Q(status=Status.SUCCEEDED)),
            failed=Count("id", filter=Q(status=Status.FAILED)),
            cancelled=Count("id", filter=Q(status=Status.CANCELLED)),
            ran=Sum(ran),
        )
    }
    quotas = {row.user_id: row for row in Quota.objects.visible_to(actor)}
    return [
        {"member": member, "sums": sums.get(member.user_id, {}), "quota": quotas.get(member.user_id)}
        for member in members
    ]


def membership_of(*, actor: Actor, user_id: UUID) -> Membership:
    """The membership of a person in the actor's organization. NotFound otherwise."""
    found: Membership | None = Membership.objects.visible_to(actor).filter(user_id=user_id).first()
    if found is None:
        raise NotFound("There is no such member.")
    return found


def events(*, actor: Actor, search: str = "", before: str = "", after: str = "") -> audit.Window:
    """One window of the same lines, without counting the log. Needs audit.view."""
    return audit.window(actor=actor, filters=audit.Filters(search=search), before=before, after=after, about=_ABOUT)


def happened(*, actor: Actor, search: str = "") -> QuerySet[Any]:
    """Lines of the audit log about tasks and workers, newest first. Needs audit.view."""
    found: QuerySet[Any] = audit.query(actor=actor, filters=audit.Filters(search=search)).filter(_ABOUT)
    return found


@dataclass(frozen=True, slots=True)
class Volume:
    """Packed bytes of logs of the last 30 days, and what a year of that is; what is kept now, and where."""

    month: int
    a_year: int
    kept: int
    in_bucket: bool


def volume(*, actor: Actor) -> Volume:
    """How much room logs take. Packed sizes: what is paid for."""
    actor.require(WORKERS_MANAGE, "see how long logs are kept")
    if actor.org_id is None:
        raise NotFound("Act in one organization.")
    rows = LogPiece.objects.filter(attempt__task__organization_id=actor.org_id)
    packed = Sum(Length("data") + F("kept_length"))
    month = rows.filter(at__gte=clock.now() - timedelta(days=30)).aggregate(n=packed)["n"] or 0
    return Volume(month, month * 365 // 30, rows.aggregate(n=packed)["n"] or 0, storage.bucket() is not None)
