"""Members and invitations over HTTP: the same services as the pages, so the same rights, checks and audit lines."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import selectors, services
from accounts.api import examples
from accounts.api import serializers as shapes
from core.api.pagination import Pages
from core.api.views import CurfewAPIView

TAGS = ["Members"]
REFUSED = OpenApiResponse(description="application/problem+json")
NO = {401: REFUSED, 403: REFUSED}
PAGES = [OpenApiParameter("page", int), OpenApiParameter("page_size", int)]


class MemberListView(CurfewAPIView):
    """Everybody in the organization, by name."""

    @extend_schema(tags=TAGS, parameters=PAGES, responses={200: shapes.MemberOut(many=True), **NO})
    def get(self, request: Request) -> Response:
        return _paged(self, request, selectors.list_members(actor=self.actor), shapes.MemberOut)


class MemberView(CurfewAPIView):
    """One member. The last owner can neither be demoted nor removed: 409 `last_owner`."""

    @extend_schema(tags=TAGS, responses={200: shapes.MemberOut, **NO, 404: REFUSED})
    def get(self, request: Request, membership_id: UUID) -> Response:
        return self._shown(membership_id)

    @extend_schema(
        tags=TAGS,
        request=shapes.RoleIn,
        responses={200: shapes.MemberOut, **NO, 404: REFUSED, 409: REFUSED, 422: REFUSED},
    )
    def patch(self, request: Request, membership_id: UUID) -> Response:
        """Give the member another role. Owners are made and unmade by owners only."""
        asked = shapes.RoleIn(data=request.data)
        self.actor.require("members.manage", "change roles")
        asked.is_valid(raise_exception=True)
        services.change_role(actor=self.actor, membership_id=membership_id, role=asked.validated_data["role"])
        return self._shown(membership_id)

    @extend_schema(tags=TAGS, responses={204: None, **NO, 404: REFUSED, 409: REFUSED})
    def delete(self, request: Request, membership_id: UUID) -> Response:
        """Take the member out and end their API log-ins in this organization; oneself: leave it."""
        services.remove_member(actor=self.actor, membership_id=membership_id)
        return Response(status=status.HTTP_204_NO_CONTENT)

    def _shown(self, membership_id: UUID) -> Response:
        return Response(shapes.MemberOut(selectors.get_member(actor=self.actor, membership_id=membership_id)).data)


class InvitationListView(CurfewAPIView):
    """Open invitations, newest first."""

    @extend_schema(tags=TAGS, parameters=PAGES, responses={200: shapes.InvitationOut(many=True), **NO})
    def get(self, request: Request) -> Response:
        return _paged(self, request, selectors.list_invitations(actor=self.actor), shapes.InvitationOut)

    @extend_schema(
        tags=TAGS,
        request=shapes.InvitationIn,
        responses={201: shapes.InvitationMadeOut, **NO, 409: REFUSED, 422: REFUSED, 429: REFUSED},
        examples=[examples.INVITATION_IN],
    )
    def post(self, request: Request) -> Response:
        """Invite an address by e-mail. `link` is for handing over where no mail arrives; it is told here and nowhere else."""
        asked = shapes.InvitationIn(data=request.data)
        self.actor.require("members.manage", "invite people")
        asked.is_valid(raise_exception=True)
        row, link = services.invite(actor=self.actor, **asked.validated_data)
        return _made(self, row, link, status.HTTP_201_CREATED)


class InvitationView(CurfewAPIView):
    """One open invitation."""

    @extend_schema(tags=TAGS, responses={204: None, **NO, 404: REFUSED})
    def delete(self, request: Request, invitation_id: UUID) -> Response:
        """Take it back: its links stop working."""
        services.revoke_invitation(actor=self.actor, invitation_id=invitation_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class InvitationResendView(CurfewAPIView):
    """Send it anew."""

    @extend_schema(tags=TAGS, request=None, responses={200: shapes.InvitationMadeOut, **NO, 404: REFUSED, 429: REFUSED})
    def post(self, request: Request, invitation_id: UUID) -> Response:
        """A new link and seven new days; older links stop working."""
        row, link = services.resend_invitation(actor=self.actor, invitation_id=invitation_id)
        return _made(self, row, link, status.HTTP_200_OK)


def _made(view: CurfewAPIView, row: Any, link: str, code: int) -> Response:
    shown = selectors.get_invitation(actor=view.actor, invitation_id=row.id)
    return Response({**shapes.InvitationOut(shown).data, "link": link}, status=code)


def _paged(view: CurfewAPIView, request: Request, rows: list[Any], shape: Any) -> Response:
    pages = Pages()
    return pages.get_paginated_response(shape(pages.paginate_queryset(rows, request, view=view), many=True).data)
