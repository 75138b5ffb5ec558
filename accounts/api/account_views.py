"""Cloud accounts over HTTP."""

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
from accounts.enums import AccountStatus, Provider
from accounts.throttles import ConnectThrottle
from core.api.pagination import Pages
from core.api.views import CurfewAPIView

TAGS = ["Cloud accounts"]
REFUSED = OpenApiResponse(description="application/problem+json")
ONE = {200: shapes.AccountOut, 401: REFUSED, 403: REFUSED, 404: REFUSED}
ORDERINGS = ("name", "created_at", "status", "provider")


class AccountListView(CurfewAPIView):
    """The organization's cloud accounts, the placeholder included; numbers are masked."""

    @extend_schema(
        tags=TAGS,
        parameters=[
            OpenApiParameter("provider", enum=list(Provider.values)),
            OpenApiParameter("status", enum=list(AccountStatus.values)),
            OpenApiParameter("search", description="In the name."),
            OpenApiParameter("ordering", enum=[*ORDERINGS, *(f"-{o}" for o in ORDERINGS)]),
            OpenApiParameter("page", int),
            OpenApiParameter("page_size", int),
        ],
        responses={200: shapes.AccountOut(many=True), 401: REFUSED},
    )
    def get(self, request: Request) -> Response:
        asked = request.query_params
        rows = selectors.find_accounts(
            actor=self.actor,
            provider=asked.get("provider", ""),
            status=asked.get("status", ""),
            search=asked.get("search", ""),
            ordering=asked.get("ordering", "") if asked.get("ordering", "").removeprefix("-") in ORDERINGS else "",
        )
        pages = Pages()
        page = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response(shapes.AccountOut(page, many=True).data)


class AccountView(CurfewAPIView):
    """One cloud account."""

    @extend_schema(tags=TAGS, responses=ONE)
    def get(self, request: Request, account_id: UUID) -> Response:
        return _shown(selectors.get_account(actor=self.actor, account_id=account_id))

    @extend_schema(tags=TAGS, request=shapes.RenameIn, responses={**ONE, 422: REFUSED})
    def patch(self, request: Request, account_id: UUID) -> Response:
        selectors.get_account(actor=self.actor, account_id=account_id)
        data = shapes.RenameIn(data=request.data)
        data.is_valid(raise_exception=True)
        return _shown(
            services.rename_account(actor=self.actor, account_id=account_id, name=data.validated_data["name"])
        )

    @extend_schema(tags=TAGS, responses={204: None, 403: REFUSED, 404: REFUSED, 409: REFUSED})
    def delete(self, request: Request, account_id: UUID) -> Response:
        services.disconnect_account(actor=self.actor, account_id=account_id)
        return Response(status=status.HTTP_204_NO_CONTENT)


class AccountStatusView(CurfewAPIView):
    """Pending, scanning, active or error, with the reason and what to do next."""

    @extend_schema(tags=TAGS, responses={200: shapes.AccountStatusOut, 401: REFUSED, 404: REFUSED})
    def get(self, request: Request, account_id: UUID) -> Response:
        row = selectors.get_account(actor=self.actor, account_id=account_id)
        return Response(shapes.AccountStatusOut(row).data)


class RoleSetupView(CurfewAPIView):
    """Prepare an AWS role: the external ID, the template and the link that launches it."""

    throttle_classes = (ConnectThrottle,)

    @extend_schema(
        tags=TAGS,
        request=shapes.RoleSetupIn,
        responses={201: shapes.RoleSetupOut, 403: REFUSED, 422: REFUSED},
        examples=[examples.ROLE_IN],
    )
    def post(self, request: Request) -> Response:
        data = shapes.RoleSetupIn(data=request.data)
        data.is_valid(raise_exception=True)
        asked = {k: v for k, v in data.validated_data.items() if k != "provider"}
        setup = services.prepare_role(actor=self.actor, **asked)
        return Response(shapes.RoleSetupOut(setup).data, status=status.HTTP_201_CREATED)


class ConnectView(CurfewAPIView):
    """Connect a cloud account. The cloud is asked first; nothing is stored that does not work."""

    throttle_classes = (ConnectThrottle,)

    @extend_schema(
        tags=TAGS,
        request=shapes.ConnectIn,
        responses={201: shapes.AccountOut, 403: REFUSED, 409: REFUSED, 422: REFUSED, 503: REFUSED},
        examples=[examples.CONNECT_ROLE, examples.CONNECT_KEYS],
    )
    def post(self, request: Request) -> Response:
        data = shapes.ConnectIn(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        row = services.connect_account(
            actor=self.actor,
            provider=asked["provider"],
            method=asked["method"],
            name=asked["name"],
            region=asked["region"],
            values=data.values(),
            account_id=asked["account_id"],
        )
        return _shown(row, status.HTTP_201_CREATED, {"Location": f"/api/client/accounts/{row.id}"})


class VerifyView(CurfewAPIView):
    """Ask the cloud whether the credentials still work; connects an account whose role was prepared."""

    throttle_classes = (ConnectThrottle,)

    @extend_schema(tags=TAGS, request=None, responses={**ONE, 409: REFUSED, 422: REFUSED, 503: REFUSED})
    def post(self, request: Request, account_id: UUID) -> Response:
        return _shown(services.verify_account(actor=self.actor, account_id=account_id))


class ResyncView(CurfewAPIView):
    """Scan the account again."""

    @extend_schema(
        tags=TAGS,
        request=None,
        responses={202: OpenApiResponse(description="`{operation, account}`"), 404: REFUSED, 409: REFUSED},
    )
    def post(self, request: Request, account_id: UUID) -> Response:
        row, operation = services.resync_account(actor=self.actor, account_id=account_id)
        body: dict[str, Any] = {"account": shapes.AccountOut(row).data, "operation": _operation_shape(operation)}
        headers = {"Location": f"/api/operations/{operation.id}"} if operation else {}
        return Response(body, status=status.HTTP_202_ACCEPTED, headers=headers)


def _operation_shape(operation: Any) -> dict[str, Any] | None:
    """The part of an operation that every 202 carries; the whole is at its `Location`."""
    if operation is None:
        return None
    return {
        "id": str(operation.id),
        "kind": operation.kind,
        "status": str(operation.status),
        "progress": operation.progress,
        "created_at": operation.created_at,
    }


def _shown(row: Any, code: int = status.HTTP_200_OK, headers: dict[str, str] | None = None) -> Response:
    return Response(shapes.AccountOut(row).data, status=code, headers=headers)
