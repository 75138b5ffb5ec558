"""Web Push: what a browser's push service is sent (RFC 8030, 8291 and 8292).

The payload is encrypted for the browser, so that the push service between cannot read it; a VAPID key shows the push
service that the same server speaks as when the browser subscribed. `CURFEW_VAPID_KEY` holds it (32 bytes, base64url);
without it `<data>/vapid.key` does, made on first use with mode 0600.
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
import time
from collections.abc import Mapping
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

import http_ece
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

FILE = "vapid.key"
MOST_BYTES = 3000  # push services take 4096 with the encryption around it
LIFETIME_SECONDS = 24 * 3600
_TOKEN_SECONDS = 12 * 3600


class BadSubscription(ValueError):
    """The keys of a subscription are not what a browser gives; the message says which."""


def public_key() -> str:
    """What a browser needs to subscribe: the uncompressed point in base64url."""
    return _b64(_public_bytes(_key()))


def check_keys(p256dh: str, auth: str) -> None:
    """Raises BadSubscription unless the two keys can be encrypted for."""
    try:
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), _unb64(p256dh))
    except ValueError as bad:
        raise BadSubscription("The key p256dh is not a point of the curve P-256.") from bad
    try:
        length = len(_unb64(auth))
    except ValueError:
        length = 0
    if length != 16:
        raise BadSubscription("The key auth is not 16 bytes in base64url.")


def encrypt(payload: bytes, p256dh: str, auth: str) -> bytes:
    """The body for the push service, in the coding aes128gcm; a fresh key and salt each time."""
    made: bytes = http_ece.encrypt(
        payload,
        private_key=ec.generate_private_key(ec.SECP256R1()),
        dh=_unb64(p256dh),
        auth_secret=_unb64(auth),
        version="aes128gcm",
    )
    return made


def headers(endpoint: str, *, topic: str, urgent: bool) -> Mapping[str, str]:
    """Headers of the request. A later message with the same topic replaces an undelivered earlier one."""
    parts = urlsplit(endpoint)
    claims = {
        "aud": f"{parts.scheme}://{parts.netloc}",
        "exp": int(time.time()) + _TOKEN_SECONDS,
        "sub": f"mailto:{parseaddr(settings.DEFAULT_FROM_EMAIL)[1]}",
    }
    token = jwt.encode(claims, _key(), "ES256")
    return {
        "Authorization": f"vapid t={token}, k={public_key()}",
        "Content-Encoding": "aes128gcm",
        "Content-Type": "application/octet-stream",
        "TTL": str(LIFETIME_SECONDS),
        "Urgency": "high" if urgent else "normal",
        "Topic": topic,
    }


def _key() -> ec.EllipticCurvePrivateKey:
    return _parsed(settings.CURFEW_VAPID_KEY or _from_file(Path(settings.CURFEW_DATA) / FILE))


@lru_cache(maxsize=4)
def _parsed(text: str) -> ec.EllipticCurvePrivateKey:
    try:
        number = int.from_bytes(_unb64(text), "big")
        return ec.derive_private_key(number, ec.SECP256R1())
    except ValueError as bad:
        raise ImproperlyConfigured("CURFEW_VAPID_KEY must be 32 bytes in base64url.") from bad


def _from_file(path: Path) -> str:
    """The key in the file; of processes that find none at the same moment, the first one's key counts."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        number = ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".vapid-")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(_b64(number.to_bytes(32, "big")) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        Path(name).unlink()
    return path.read_text(encoding="ascii").strip()


def _public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unb64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
