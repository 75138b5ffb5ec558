"""Signing manifests with Ed25519. The private key stays on the building side; the installer needs the public one only."""

from __future__ import annotations

import json
import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cloudnodes.packages.format import PackageProblem


def load_or_create_key(path: Path) -> Ed25519PrivateKey:
    """The key in a PEM file; made, readable by its owner only, when there is none yet."""
    if path.exists():
        return load_key(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    text = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    fresh = path.with_name(f"{path.name}.{os.getpid()}.new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(text)
    try:
        # a link, not a rename: whoever comes first wins, and both then use the same key
        os.link(fresh, path)
    except FileExistsError:
        return load_key(path)
    finally:
        fresh.unlink()
    return load_key(path)


def load_key(path: Path) -> Ed25519PrivateKey:
    """An Ed25519 private key from a PEM file; PackageProblem when the file holds none."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as failure:
        raise PackageProblem("bad_key", f"{path} holds no usable private key: {failure}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise PackageProblem("bad_key", f"{path} holds another kind of key; Ed25519 is needed.")
    return key


def public_hex(key: Ed25519PrivateKey) -> str:
    """The public key as people pass it to `--public-key`."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw).hex()


def signature_file(key: Ed25519PrivateKey, manifest: bytes) -> bytes:
    """The content of `manifest.sig`. Ed25519 is deterministic, so a rebuild signs with the same bytes."""
    said = {"algorithm": "Ed25519", "public_key": public_hex(key), "signature": key.sign(manifest).hex()}
    return (json.dumps(said, sort_keys=True) + "\n").encode()
