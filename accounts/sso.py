"""Single sign-on by OpenID Connect: allauth's flow, with every check of the ID token that it leaves out.

allauth takes an ID token from the token endpoint on trust. Here its signature is checked against the provider's
published keys all the same, and issuer, audience, authorized party, expiry and nonce must be ours. One provider an
installation, named by the environment; see docs/people.md.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter, get_adapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse

from accounts import services
from accounts.facts import facts_of_request
from core.errors import CurfewError

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")
LEEWAY_SECONDS = 30
FAILED = "The single sign-on did not work. Try again; if it fails again, tell the operator of this server the time."
CANCELLED = "The single sign-on was cancelled."


def provider_id(issuer: str) -> str:
    """Names the provider in our tables. Another issuer is another provider: its subjects are other people."""
    return f"oidc-{hashlib.sha256(issuer.encode()).hexdigest()[:12]}"


def is_offered() -> bool:
    return bool(settings.CURFEW_OIDC_ISSUER and settings.CURFEW_OIDC_CLIENT_ID)


class SsoAdapter(OpenIDConnectOAuth2Adapter):
    """One log-in at the provider; `state` is what was kept in the session when it began."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request, provider_id(settings.CURFEW_OIDC_ISSUER))
        self.state: dict[str, Any] = {}

    @property
    def openid_config(self) -> dict[str, Any]:
        _need_https(settings.CURFEW_OIDC_ISSUER)
        config: dict[str, Any] = super().openid_config
        if config.get("issuer") != settings.CURFEW_OIDC_ISSUER:
            raise OAuth2Error(
                f"The provider calls itself {config.get('issuer')!r}, not {settings.CURFEW_OIDC_ISSUER!r}"
            )
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _need_https(str(config.get(name, "")))
        return config

    def get_callback_url(self, request: HttpRequest, app: Any) -> str:
        return str(settings.CURFEW_BASE_URL) + reverse("accounts:sso-callback")

    def complete_login(self, request: HttpRequest, app: Any, token: Any, **kwargs: Any) -> SocialLogin:
        """Check the ID token and the user info; raises OAuth2Error when anything is not right."""
        text = kwargs["response"].get("id_token")
        if not text:
            raise OAuth2Error("The provider gave no ID token")
        claims = self._checked(text, app.client_id)
        person = {name: claims[name] for name in ("sub", "email", "email_verified", "name") if name in claims}
        if "userinfo_endpoint" in self.openid_config:
            told = self._fetch_user_info(token.token)
            if told.get("sub") != claims["sub"]:
                raise OAuth2Error("The user info is about somebody else")
            person |= {name: told[name] for name in ("email", "email_verified", "name") if name in told}
        return self.get_provider().sociallogin_from_response(request, {"userinfo": person})

    def _checked(self, text: str, client_id: str) -> dict[str, Any]:
        try:
            header = jwt.get_unverified_header(text)
            if header.get("alg") not in ALGORITHMS:
                raise OAuth2Error(f"ID token signed with {header.get('alg')!r}")
            claims: dict[str, Any] = jwt.decode(
                text,
                self._signing_key(header),
                algorithms=[header["alg"]],
                issuer=settings.CURFEW_OIDC_ISSUER,
                audience=client_id,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iat", "iss", "aud", "sub"]},
            )
        except jwt.PyJWTError as wrong:
            raise OAuth2Error(f"ID token refused: {type(wrong).__name__}") from wrong
        if not hmac.compare_digest(str(claims.get("nonce", "")), str(self.state.get("nonce") or "?")):
            raise OAuth2Error("ID token refused: wrong nonce")
        audience = claims["aud"]
        if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
            raise OAuth2Error("ID token refused: made for another party")
        return claims

    def _signing_key(self, header: dict[str, Any]) -> jwt.PyJWK:
        with get_adapter().get_requests_session() as session:
            answer = session.get(self.openid_config["jwks_uri"])
            answer.raise_for_status()
            published = jwt.PyJWKSet.from_dict(answer.json())
        usable = [k for k in published.keys if k.public_key_use in (None, "sig") and k.key_type != "oct"]
        if header.get("kid"):
            usable = [k for k in usable if k.key_id == header["kid"]]
        if len(usable) != 1:
            raise OAuth2Error("ID token signed with a key that the provider does not publish")
        return usable[0]


def _need_https(url: str) -> None:
    """Plain HTTP is for a provider on this very machine only."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        here = ipaddress.ip_address(host).is_loopback
    except ValueError:
        here = host == "localhost"
    if parts.scheme != "https" and not (parts.scheme == "http" and here):
        raise OAuth2Error(f"Not an https address: {url!r}")


class SocialAccountAdapter(DefaultSocialAccountAdapter):
    """Who the provider's person is here. Nobody is let in by an address alone that either side has not confirmed."""

    def list_apps(self, request: HttpRequest, provider: Any = None, client_id: Any = None) -> list[SocialApp]:
        """The one provider of the environment; none is kept in the database."""
        app = SocialApp(
            provider="openid_connect",
            provider_id=provider_id(settings.CURFEW_OIDC_ISSUER),
            name=settings.CURFEW_OIDC_NAME,
            client_id=settings.CURFEW_OIDC_CLIENT_ID,
            secret=settings.CURFEW_OIDC_CLIENT_SECRET,
            settings={"server_url": settings.CURFEW_OIDC_ISSUER, "oauth_pkce_enabled": True},
        )
        return [app] if is_offered() and provider in (None, app.provider, app.provider_id) else []

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        if sociallogin.is_existing:
            return
        told = sociallogin.account.extra_data.get("userinfo", {})
        try:
            user = services.person_for_sso(
                email=str(told.get("email") or ""),
                verified=told.get("email_verified") is True,
                name=str(told.get("name") or ""),
                provider=settings.CURFEW_OIDC_NAME,
                facts=facts_of_request(request),
            )
        except CurfewError as refused:
            raise ImmediateHttpResponse(back_to_login(request, refused.message)) from refused
        sociallogin.connect(request, user)

    def on_authentication_error(self, request: HttpRequest, provider: Any, **more: Any) -> None:
        cancelled = str(more.get("error")) == "cancelled"
        services.log_sso_failure(
            reason=str(more.get("exception") or more.get("error")), facts=facts_of_request(request)
        )
        raise ImmediateHttpResponse(back_to_login(request, CANCELLED if cancelled else FAILED))


def back_to_login(request: HttpRequest, words: str) -> HttpResponseRedirect:
    """The log-in page, saying why."""
    messages.error(request, words)
    return HttpResponseRedirect(reverse("accounts:login"))


NetworkTrouble = requests.RequestException
