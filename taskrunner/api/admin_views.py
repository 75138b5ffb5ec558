"""For admins: people and what they run, what happened, how long logs are kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import services as accounts
from audit import selectors as audit
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import Forbidden
from taskrunner import selectors, services, shapes
from taskrunner.api import serializers as s
from taskrunner.api.views import WORKER_TAGS as TAGS
from taskrunner.api.views import read
from taskrunner.forms import LIMITS

ANY = OpenApiTypes.OBJECT


def person_shape(row: dict[str, Any]) -> dict[str, Any]:
    member, sums, quota = row["member"], row["sums"], row["quota"]
    ran = sums.get("ran")
    return {
        "id": str(member.user_id),
        "name": member.user.display_name,
        "email": member.user.email,
        "role": member.role,
        "since": shapes.moment(member.created_at),
        "tasks": {name: sums.get(name, 0) for name in ("running", "waiting", "succeeded", "failed", "cancelled")},
        "ran_hours": round(ran.total_seconds() / 3600, 3) if ran else 0.0,
        "quota": {name: getattr(quota, name) for name in LIMITS} if quota else None,
    }


class UsersView(CurfewAPIView):
    @extend_schema(operation_id="admin_users", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Members with their role, limits and what their tasks come to."""
        rows = [person_shape(row) for row in selectors.list_people(actor=self.actor)]
        return Response({"count": len(rows), "next": None, "previous": None, "results": rows})

    @extend_schema(operation_id="admin_user_invite", request=s.PersonWriteSerializer, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Invite a person: an account is made by its owner, who opens the link of the mail."""
        row, _ = accounts.invite(actor=self.actor, **read(s.PersonWriteSerializer, request.data))
        body = {"invitation": str(row.id), "email": row.email, "role": row.role}
        return Response({**body, "expires_at": shapes.moment(row.expires_at)}, status=201)


class UserView(CurfewAPIView):
    @extend_schema(operation_id="admin_user", responses=ANY, tags=TAGS)
    def get(self, request: Request, user_id: UUID) -> Response:
        """One member."""
        selectors.membership_of(actor=self.actor, user_id=user_id)
        return Response(person_shape(selectors.list_people(actor=self.actor, user_id=user_id)[0]))

    @extend_schema(operation_id="admin_user_save", request=s.PersonChangeSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request, user_id: UUID) -> Response:
        """Change a member's role, limits, or both."""
        given = read(s.PersonChangeSerializer, request.data)
        member = selectors.membership_of(actor=self.actor, user_id=user_id)
        self.actor.require("members.manage", "change people")
        if "quota" in given:
            services.save_quota(actor=self.actor, user_id=user_id, limits=given["quota"])
        if "role" in given and given["role"] != member.role:
            accounts.change_role(actor=self.actor, membership_id=member.id, role=given["role"])
        return Response(person_shape(selectors.list_people(actor=self.actor, user_id=user_id)[0]))

    @extend_schema(operation_id="admin_user_remove", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, user_id: UUID) -> Response:
        """Take a person out of the organization."""
        member = selectors.membership_of(actor=self.actor, user_id=user_id)
        self.actor.require("members.manage", "remove people")
        accounts.remove_member(actor=self.actor, membership_id=member.id)
        return Response(status=204)


class LogsView(CurfewAPIView):
    @extend_schema(operation_id="admin_logs", parameters=[s.AdminLogQuerySerializer], responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """What happened to tasks and workers, newest first: lines of the audit log."""
        asked = read(s.AdminLogQuerySerializer, request.query_params)
        pages = Pages()
        rows = pages.paginate_queryset(
            selectors.happened(actor=self.actor, search=asked.get("search", "")), request, view=self
        )
        return pages.get_paginated_response([_line(audit.view(entry)) for entry in rows or []])


def _line(view: audit.EntryView) -> dict[str, Any]:
    entry = view.entry
    return {
        "id": str(entry.id),
        "at": shapes.moment(entry.at),
        "actor": entry.actor_label,
        "verb": entry.verb,
        "sentence": view.sentence,
        "target": {"kind": entry.target_kind, "id": entry.target_id, "label": entry.target_label},
        "outcome": entry.outcome,
        "detail": entry.detail,
    }


class KeepingView(CurfewAPIView):
    @extend_schema(operation_id="admin_task_settings", responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """For how long figures and logs are kept."""
        self.actor.require("workers.view", "see how long logs are kept")
        if self.actor.org_id is None:
            raise Forbidden("Act in one organization.")
        row = services.settings_of(self.actor.org_id)
        return Response({"sample_days": row.sample_days, "log_days": row.log_days})

    @extend_schema(operation_id="admin_task_settings_save", request=s.KeepingSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request) -> Response:
        """Keep figures and logs for so many days; null is for ever."""
        row = services.save_keeping(actor=self.actor, **read(s.KeepingSerializer, request.data))
        return Response({"sample_days": row.sample_days, "log_days": row.log_days})
