"""Make the key of a restic repository in a folder quick to open, for campaigns that run restic thousands of times.

restic hashes the password for a quarter of a second at each start, on purpose; passwords of campaigns guard nothing.
The master key, and so every byte that restic reads and writes, stays the same: its file is sealed anew with small
numbers for scrypt. The form is that of restic's design document, "Keys, Encryption and MAC".
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from pathlib import Path

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

CHEAP = {"N": 1024, "r": 8, "p": 1}


def make_cheap(repository: Path, password: str) -> None:
    """Replace every key of the password by one that opens at once."""
    for file in list((repository / "keys").iterdir()):
        told = json.loads(file.read_bytes())
        salt = base64.b64decode(told["salt"])
        master = _opened(_derived(password, salt, told), base64.b64decode(told["data"]))
        cheap = {**told, **CHEAP}
        cheap["data"] = base64.b64encode(_sealed(_derived(password, salt, cheap), master)).decode()
        body = json.dumps(cheap).encode()
        file.with_name(hashlib.sha256(body).hexdigest()).write_bytes(body)
        file.unlink()


def _derived(password: str, salt: bytes, told: dict[str, int]) -> bytes:
    n, r, p = told["N"], told["r"], told["p"]
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r + 2**20, dklen=64)


def _stream(key: bytes, nonce: bytes, data: bytes) -> bytes:
    return Cipher(algorithms.AES(key[:32]), modes.CTR(nonce)).encryptor().update(data)


def _sum(key: bytes, nonce: bytes, data: bytes) -> bytes:
    once = Cipher(algorithms.AES(key[32:48]), modes.ECB()).encryptor().update(nonce)
    return Poly1305.generate_tag(key[48:] + once, data)


def _opened(key: bytes, sealed: bytes) -> bytes:
    nonce, data, tag = sealed[:16], sealed[16:-16], sealed[-16:]
    if _sum(key, nonce, data) != tag:
        raise ValueError("the password does not open this key")
    return _stream(key, nonce, data)


def _sealed(key: bytes, master: bytes) -> bytes:
    nonce = os.urandom(16)
    data = _stream(key, nonce, master)
    return nonce + data + _sum(key, nonce, data)
