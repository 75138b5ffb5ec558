"""Signing up, tokens, and who one is."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from allauth.account.adapter import get_adapter
from allauth.mfa.utils import is_mfa_enabled
from drf_spectacular.utils import OpenApiResponse, extend_schema
from rest_framework import status
from rest_framework.permissions import AllowAny
from rest_framework.request import Request
from rest_framework.response import Response

from accounts import selectors, services
from accounts.api import examples
from accounts.api import serializers as shapes
from accounts.api.authentication import SessionAuthentication
from accounts.api.login import log_in, needs_verified_email
from accounts.facts import facts_of_request
from accounts.throttles import LoginThrottle, SignupThrottle
from core.actor import ActorKind
from core.api.views import CurfewAPIView
from core.errors import NotSignedIn

TAGS = ["Accounts"]
OPEN: Any = (AllowAny,)
REFUSED = OpenApiResponse(description="application/problem+json")


class SignupView(CurfewAPIView):
    """Make a person, an organization and a placeholder cloud account in one step."""

    authentication_classes = ()
    permission_classes = OPEN
    throttle_classes = (SignupThrottle,)

    @extend_schema(
        tags=TAGS,
        request=shapes.SignupIn,
        responses={201: shapes.SignupOut, 422: REFUSED, 429: REFUSED},
        examples=[examples.SIGNUP_IN, examples.SIGNUP_OUT],
    )
    def post(self, request: Request) -> Response:
        data = shapes.SignupIn(data=request.data)
        data.is_valid(raise_exception=True)
        facts = facts_of_request(request._request)
        made = services.sign_up(**data.validated_data, facts=facts)
        caller = selectors.caller_for(made.user, **facts)
        if caller is None:
            raise NotSignedIn
        waits = needs_verified_email(made.user)  # then the log-in sends the mail, and no token is given before
        pair = None if waits else services.issue_tokens(caller=caller)
        body = {
            "user": shapes.user_shape(caller),
            "organization": shapes.organization_shape(made.organization),
            "account": {"id": str(made.account.id), "status": str(made.account.status)},
            "access": pair.access if pair else None,
            "refresh": pair.refresh if pair else None,
        }
        return Response(body, status=status.HTTP_201_CREATED)


class TokenView(CurfewAPIView):
    """Exchange e-mail and password for tokens. With a second factor: 401 `mfa_required`, then again with `otp`."""

    authentication_classes = ()
    permission_classes = OPEN
    throttle_classes = (LoginThrottle,)

    @extend_schema(
        tags=TAGS,
        request=shapes.LoginIn,
        responses={200: shapes.LoginOut, 401: REFUSED, 422: REFUSED, 429: REFUSED},
        examples=[examples.LOGIN_IN, examples.LOGIN_OUT, examples.MFA_REQUIRED],
    )
    def post(self, request: Request) -> Response:
        data = shapes.LoginIn(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        caller = log_in(
            request._request,
            email=asked["email"],
            password=asked["password"],
            otp=asked["otp"],
            organization_id=asked["organization"],
        )
        pair = services.issue_tokens(caller=caller)
        return Response({"access": pair.access, "refresh": pair.refresh, "user": shapes.user_shape(caller)})


class RefreshView(CurfewAPIView):
    """Exchange a refresh token for a new pair. It works once: a second use ends the whole log-in."""

    authentication_classes = ()
    permission_classes = OPEN
    throttle_classes = (LoginThrottle,)

    @extend_schema(tags=TAGS, request=shapes.RefreshIn, responses={200: shapes.TokensOut, 401: REFUSED})
    def post(self, request: Request) -> Response:
        data = shapes.RefreshIn(data=request.data)
        data.is_valid(raise_exception=True)
        pair = services.rotate_refresh(refresh=data.validated_data["refresh"], facts=facts_of_request(request._request))
        return Response({"access": pair.access, "refresh": pair.refresh})


class LogoutView(CurfewAPIView):
    """End a log-in: the one of the refresh token, else every API log-in of the person; a browser session as well."""

    @extend_schema(tags=TAGS, request=shapes.LogoutIn, responses={204: None, 401: REFUSED})
    def post(self, request: Request) -> Response:
        data = shapes.LogoutIn(data=request.data)
        data.is_valid(raise_exception=True)
        caller = _caller(self)
        if caller is not None:
            refresh = data.validated_data["refresh"]
            services.revoke(refresh=refresh) if refresh else services.revoke(user=caller.user)
            services.record_sign_out(actor=self.actor, user=caller.user)
            if isinstance(request.successful_authenticator, SessionAuthentication):
                get_adapter(request._request).logout(request._request)
        return Response(status=status.HTTP_204_NO_CONTENT)


class ProfileView(CurfewAPIView):
    """Who the caller is, in which organization, and what it may do there."""

    @extend_schema(tags=TAGS, responses={200: shapes.ProfileOut, 401: REFUSED})
    def get(self, request: Request) -> Response:
        caller = _caller(self)
        if caller is None:
            return Response(_key_profile(self))
        body = shapes.profile_shape(
            caller,
            selectors.memberships_of(caller.user),
            mfa=is_mfa_enabled(caller.user),
            onboarding=selectors.needs_wizard(caller),
        )
        return Response(body)


def _caller(view: CurfewAPIView) -> selectors.Caller | None:
    """The person behind the call; None for an API key."""
    if view.actor.kind != ActorKind.USER:
        return None
    user = selectors.get_user(UUID(view.actor.id))
    return selectors.caller_for(user, view.actor.org_id) if user else None


def _key_profile(view: CurfewAPIView) -> dict[str, object]:
    actor = view.actor
    organization = selectors.get_organization(actor=actor)
    return {
        "kind": str(actor.kind),
        "id": actor.id,
        "email": None,
        "name": actor.label,
        "role": None,
        "organization": shapes.organization_shape(organization),
        "organizations": [],
        "permissions": sorted(actor.permissions),
        "mfa": False,
        "onboarding": False,
    }
