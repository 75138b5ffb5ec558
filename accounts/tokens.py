"""Opaque tokens (API keys, agents) and signed JWTs. Only digests of opaque tokens are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import jwt
from django.conf import settings

from core import clock

ACCESS_LIFETIME = timedelta(minutes=15)
REFRESH_LIFETIME = timedelta(days=14)
ALGORITHM = "HS256"


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """`text` is shown once; `prefix` finds the row, `digest` proves it."""

    text: str
    prefix: str
    digest: str


def digest_of(text: str) -> str:
    return hmac.new(settings.SECRET_KEY.encode(), text.encode(), hashlib.sha256).hexdigest()


def new_opaque(kind: str) -> OpaqueToken:
    """`cfk_` API key, `cfa_` agent token, `cfe_` enrolment token: recognisable by secret scanners."""
    prefix = f"{kind}_{secrets.token_hex(5)}"
    text = f"{prefix}_{secrets.token_urlsafe(32)}"
    return OpaqueToken(text, prefix, digest_of(text))


def prefix_of(text: str) -> str:
    return "_".join(text.split("_", 2)[:2])[:16]


def matches(text: str, digest: str) -> bool:
    return hmac.compare_digest(digest_of(text), digest)


def encode_access(user_id: UUID, organization_id: UUID, role: str) -> str:
    moment = clock.now()
    claims = {
        "sub": str(user_id),
        "org": str(organization_id),
        "role": role,
        "typ": "access",
        "iat": moment,
        "exp": moment + ACCESS_LIFETIME,
        "jti": str(uuid4()),
    }
    return jwt.encode(claims, settings.CURFEW_JWT_KEY, ALGORITHM)


def encode_refresh(user_id: UUID, organization_id: UUID, jti: UUID, family: UUID) -> str:
    moment = clock.now()
    claims = {
        "sub": str(user_id),
        "org": str(organization_id),
        "typ": "refresh",
        "iat": moment,
        "exp": moment + REFRESH_LIFETIME,
        "jti": str(jti),
        "fam": str(family),
    }
    return jwt.encode(claims, settings.CURFEW_JWT_KEY, ALGORITHM)


def decode(text: str, typ: str) -> dict[str, Any] | None:
    """Verified claims, or None for anything wrong: signature, expiry, kind."""
    try:
        claims = jwt.decode(
            text, settings.CURFEW_JWT_KEY, [ALGORITHM], options={"require": ["exp", "sub", "org", "jti"]}
        )
    except jwt.InvalidTokenError:
        return None
    return claims if claims.get("typ") == typ else None
