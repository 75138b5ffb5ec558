"""Ed25519 signatures of checkpoints and purges.

`CURFEW_AUDIT_SIGNING_KEYS` is a ring `id:base64,id:base64` of 32-byte seeds: the first signs, all verify. When it is
empty, `<data>/audit-signing.key` holds a ring of one, made on first use with mode 0600.
"""

from __future__ import annotations

import base64
import contextlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

FILE = "audit-signing.key"


class SigningRing:
    """Named Ed25519 keys, the first of which signs."""

    def __init__(self, spec: str) -> None:
        self.keys: dict[str, Ed25519PrivateKey] = {}
        for part in filter(None, (p.strip() for p in spec.split(","))):
            key_id, _, text = part.partition(":")
            try:
                seed = base64.b64decode(text, validate=True)
            except ValueError as bad:
                raise ImproperlyConfigured(f"Audit signing key {key_id!r} is not base64.") from bad
            if len(seed) != 32 or not key_id.isalnum() or len(key_id) > 32:
                raise ImproperlyConfigured(f"Audit signing key {key_id!r} must be 32 bytes under an alphanumeric id.")
            self.keys[key_id] = Ed25519PrivateKey.from_private_bytes(seed)
        if not self.keys:
            raise ImproperlyConfigured("The ring of audit signing keys holds no key.")
        self.active_id = next(iter(self.keys))

    def sign(self, message: bytes) -> tuple[str, str]:
        """Key id and signature in hexadecimal."""
        return self.active_id, self.keys[self.active_id].sign(message).hex()

    def is_signed(self, message: bytes, key_id: str, signature: str) -> bool:
        """Whether a key of the ring with that id signed the message."""
        key = self.keys.get(key_id)
        if key is None:
            return False
        try:
            key.public_key().verify(bytes.fromhex(signature), message)
        except (InvalidSignature, ValueError):
            return False
        return True

    def public_keys(self) -> dict[str, str]:
        """Key id to public key in hexadecimal: what an auditor notes down."""
        return {
            name: key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw).hex() for name, key in self.keys.items()
        }


def ring() -> SigningRing:
    """The ring of this installation."""
    return _ring(settings.CURFEW_AUDIT_SIGNING_KEYS or _from_file(Path(settings.CURFEW_DATA) / FILE))


@lru_cache(maxsize=4)
def _ring(spec: str) -> SigningRing:
    return SigningRing(spec)


def _from_file(path: Path) -> str:
    """The ring in the file; of processes that find none at the same moment, the first one's key counts."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".audit-key-")
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(f"a1:{base64.b64encode(os.urandom(32)).decode()}\n")
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(name, path)
        Path(name).unlink()
    return path.read_text(encoding="ascii").strip()


def statement(kind: str, organization: str, line: int, hash_: str, at: str) -> bytes:
    """The signed bytes of a checkpoint or a purge; the stand-alone verifier repeats this form."""
    return f"curfew-{kind}-1\n{organization}\n{line}\n{hash_}\n{at}".encode()
