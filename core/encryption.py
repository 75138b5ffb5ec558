"""Secrets at rest: AES-256-GCM under a ring of named keys.

Stored form: `v1.<key id>.<base64url(nonce + ciphertext + tag)>`. The first key of the ring encrypts, all decrypt.
The owner's identity is bound in as associated data, so a ciphertext copied to another row does not open.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

_NONCE_BYTES = 12


class CannotDecrypt(Exception):
    """The key is not in the ring, or the stored text was altered or moved."""


class KeyRing:
    """Named 256-bit keys, the first of which encrypts. `spec` is `id:base64,id:base64`."""

    def __init__(self, spec: str) -> None:
        self.keys: dict[str, AESGCM] = {}
        for part in filter(None, (p.strip() for p in spec.split(","))):
            key_id, _, text = part.partition(":")
            try:
                key = base64.b64decode(text, validate=True)
            except ValueError as bad:
                raise ImproperlyConfigured(f"Encryption key {key_id!r} is not base64.") from bad
            if len(key) != 32 or not key_id.isalnum():
                raise ImproperlyConfigured(f"Encryption key {key_id!r} must be 32 bytes under an alphanumeric id.")
            self.keys[key_id] = AESGCM(key)
        if not self.keys:
            raise ImproperlyConfigured("CURFEW_ENCRYPTION_KEYS holds no key.")
        self.active_id = next(iter(self.keys))

    def encrypt(self, plain: bytes, bound_to: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self.keys[self.active_id].encrypt(nonce, plain, bound_to.encode())
        return f"v1.{self.active_id}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def decrypt(self, stored: str, bound_to: str) -> bytes:
        try:
            version, key_id, text = stored.split(".", 2)
            blob = base64.urlsafe_b64decode(text)
        except ValueError as bad:
            raise CannotDecrypt("not an encrypted value") from bad
        if version != "v1" or key_id not in self.keys:
            raise CannotDecrypt(f"no key {key_id!r} in the ring")
        try:
            return self.keys[key_id].decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], bound_to.encode())
        except InvalidTag as bad:
            raise CannotDecrypt("the stored text was altered or belongs to another row") from bad


@lru_cache(maxsize=4)
def _ring(spec: str) -> KeyRing:
    return KeyRing(spec)


def key_ring() -> KeyRing:
    return _ring(settings.CURFEW_ENCRYPTION_KEYS)


def key_id_of(stored: str) -> str:
    return stored.split(".", 2)[1] if stored.startswith("v1.") else ""


def seal(values: Mapping[str, Any], *, bound_to: str) -> str:
    """Encrypt a JSON object for one row; `bound_to` names the row (`cloud_account:<uuid>`)."""
    return key_ring().encrypt(json.dumps(dict(values), sort_keys=True).encode(), bound_to)


def unseal(stored: str, *, bound_to: str) -> dict[str, Any]:
    """Decrypt what `seal` made; empty text is an empty object. Raises CannotDecrypt."""
    if not stored:
        return {}
    data: dict[str, Any] = json.loads(key_ring().decrypt(stored, bound_to))
    return data
