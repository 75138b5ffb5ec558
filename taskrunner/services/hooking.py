"""Webhooks: a signed call from outside submits a template; what becomes of tasks is told to the outside."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import secrets as random_text
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from django.db import transaction
from django.db.models import F

from accounts import selectors as accounts
from audit import services as audit
from core import clock, encryption
from core.actor import Actor
from core.errors import CurfewError, Forbidden, InvalidInput, NotFound, NotSignedIn, RateLimited
from notifications import services as notifications
from taskrunner.enums import PERMISSION_MANAGE, PERMISSION_OPERATE, Status
from taskrunner.models import Task, TaskHook, TaskTemplate
from taskrunner.services.submitting import _person, submit

WINDOW_SECONDS = 300
LARGEST_CALL = 64 * 1024
MINUTE = timedelta(minutes=1)
_HEADER = re.compile(r"t=(\d{1,12}),v1=([0-9a-f]{64})")
EVENTS = {
    Status.RUNNING: "task.started",
    Status.SUCCEEDED: "task.succeeded",
    Status.FAILED: "task.failed",
    Status.CANCELLED: "task.cancelled",
}


class BadSignature(NotSignedIn):
    """The call does not carry a fresh signature of its body."""

    code = "bad_signature"


def save_hook(*, actor: Actor, name: str, template_id: UUID, per_minute: int = 30) -> tuple[TaskHook, str]:
    """An address that submits a template, and the secret that signs its calls, shown this once. Raises InvalidInput."""
    actor.require(PERMISSION_OPERATE, "add task webhooks")
    person = _person(actor)
    if actor.org_id is None or person is None:
        raise Forbidden("A webhook belongs to a person.")
    errors: dict[str, list[str]] = {}
    template = TaskTemplate.objects.visible_to(actor).filter(id=template_id).first()
    title = name.strip()
    if template is None:
        errors["template"] = ["There is no such template."]
    if not 0 < len(title) <= 120 or not title.isprintable():
        errors["name"] = ["A name of 1 to 120 characters."]
    elif TaskHook.objects.visible_to(actor).filter(name=title).exists():
        errors["name"] = ["Another webhook has this name."]
    if not 1 <= per_minute <= 600:
        errors["per_minute"] = ["1 to 600 calls a minute."]
    if errors or template is None:
        raise InvalidInput(errors=errors)
    secret = f"whsec_{random_text.token_urlsafe(32)}"
    row = TaskHook(
        id=uuid4(), organization_id=actor.org_id, name=title, template=template, owner=person, per_minute=per_minute,
        created_at=clock.now(),
    )  # fmt: skip
    row.sealed = encryption.seal({"secret": secret}, bound_to=row.seal_name)
    with transaction.atomic():
        row.save(force_insert=True)
        audit.record(actor=actor, verb="task_hook.added", target=row, changes={"template": [None, template.name]})
    return row, secret


def delete_hook(*, actor: Actor, hook_id: UUID) -> None:
    actor.require(PERMISSION_OPERATE, "remove task webhooks")
    rows = TaskHook.objects.visible_to(actor)
    rows = rows if actor.can(PERMISSION_MANAGE) else rows.filter(owner__id=actor.id)
    with transaction.atomic():
        row = rows.filter(id=hook_id).first()
        if row is None:
            raise NotFound("There is no such webhook.")
        audit.record(actor=actor, verb="task_hook.removed", target=row)
        row.delete()


def signature(secret: str, moment: int, body: bytes) -> str:
    """The same as of webhooks that Curfew sends."""
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


def call_hook(*, hook_id: UUID, header: str, body: bytes) -> Task:
    """Submit the hook's template. The body may hold `name` and `environment`, which is added to the template's.

    A call that comes twice gives the task that it made. Raises BadSignature, RateLimited, InvalidInput, NotFound.
    """
    hook = TaskHook.objects.all_orgs().select_related("template", "owner").filter(id=hook_id).first()
    if hook is None:
        raise NotFound("There is no such webhook.")
    found = _HEADER.fullmatch(header)
    secret = encryption.unseal(hook.sealed, bound_to=hook.seal_name)["secret"]
    if found is None or not hmac.compare_digest(signature(secret, int(found[1]), body), found[2]):
        raise BadSignature("Send Curfew-Signature: t=<unix time>,v1=<HMAC-SHA256 of t.body under the secret>.")
    if abs(clock.now().timestamp() - int(found[1])) > WINDOW_SECONDS:
        raise BadSignature("The call was signed more than five minutes ago, or the clocks differ.")
    _within_rate(hook)
    given = _read(body)
    caller = accounts.caller_for(hook.owner, hook.organization_id)
    try:
        if caller is None:
            raise Forbidden(f"{hook.owner.display_name}, who added this webhook, is no longer a member.")
        fields = {**hook.template.fields}
        fields["environment"] = {**fields.get("environment", {}), **given.get("environment", {})}
        fields["name"] = given.get("name") or fields.get("name") or hook.name
        task = submit(actor=caller.actor, fields=fields, idempotency_key=f"hook:{hook.id}:{found[2]}")
    except CurfewError as refused:
        TaskHook.objects.for_org(hook.organization_id).filter(id=hook.id).update(problem=refused.message[:300])
        raise
    TaskHook.objects.for_org(hook.organization_id).filter(id=hook.id).update(called_at=clock.now(), problem="")
    return task


def _within_rate(hook: TaskHook) -> None:
    now = clock.now()
    rows = TaskHook.objects.for_org(hook.organization_id).filter(id=hook.id)
    fresh = rows.filter(window_at__gt=now - MINUTE)
    if fresh.filter(window_count__lt=hook.per_minute).update(window_count=F("window_count") + 1):
        return
    if rows.exclude(window_at__gt=now - MINUTE).update(window_at=now, window_count=1):
        return
    began = rows.values_list("window_at", flat=True).first()
    left = int((began + MINUTE - now).total_seconds()) + 1 if began else 60
    raise RateLimited(f"At most {hook.per_minute} calls a minute.", retry_after=max(1, left))


def _read(body: bytes) -> dict[str, Any]:
    """What may be sent: nothing, or an object with `name` and `environment`."""
    if not body.strip():
        return {}
    try:
        given = json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidInput(errors={"body": ["This is not JSON."]}) from None
    if not isinstance(given, dict) or set(given) - {"name", "environment"}:
        raise InvalidInput(errors={"body": ["An object with name and environment, nothing else."]})
    if not isinstance(given.get("environment", {}), dict):
        raise InvalidInput(errors={"environment": ["An object of names and values."]})
    return given


def tell_change(*, task: Task) -> None:
    """Put a change of a task into the outbox, in the caller's transaction; subscribed to the hooks of core."""
    event = EVENTS.get(Status(task.status))
    if event is None:
        return
    word = Status(task.status).label.lower()
    notifications.notify(
        event=event,
        subject=f"{task.name} {'runs' if task.status == Status.RUNNING else word}",
        body=task.reason,
        url=f"{settings.CURFEW_BASE_URL}{task.get_absolute_url()}",
        dedupe_key=f"task:{task.id}:{task.fence}:{task.status}",
        organization_id=task.organization_id,
        user_ids=[task.owner_id] if task.owner_id else [],
        data=facts_of(task),
    )


def facts_of(task: Task) -> dict[str, Any]:
    """What a program that listens wants to know. Never a secret."""
    return {
        "task": str(task.id),
        "name": task.name,
        "status": str(task.status),
        "exit_code": task.exit_code,
        "exit_class": task.exit_class or None,
        "attempt": task.attempt,
        "image": task.image,
        "owner": task.owner_label,
        "labels": dict(task.labels),
    }
