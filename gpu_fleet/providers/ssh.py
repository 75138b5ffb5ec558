"""Keys, and a login that proves a machine usable. The host's keys are pinned: an unknown one is refused."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

CONNECT_SECONDS = 4


def new_key(comment: str) -> tuple[str, str]:
    """A fresh Ed25519 pair: the private key in OpenSSH's form, the public line."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, f"{public.decode()} {comment}"


def is_public_key(line: str) -> bool:
    """Whether a line is an OpenSSH public key with nothing before it: options such as command= are refused."""
    try:
        serialization.load_ssh_public_key(" ".join(line.split()[:2]).encode("ascii"))
    except (ValueError, UnsupportedAlgorithm):
        return False
    return line.isprintable()


def known_hosts(host: str, port: int, keys: Sequence[str]) -> str:
    """Lines for OpenSSH that accept these keys and no other for the address."""
    where = host if port == 22 else f"[{host}]:{port}"
    return "".join(f"{where} {key}\n" for key in keys)


def login(host: str, port: int, private_key: str, host_keys: Sequence[str], *, user: str = "root") -> str:
    """Log in and run `true`; "" when that worked, else what went wrong. Takes a few seconds at most."""
    if not host or not port:
        return "it has no address yet"
    if not host_keys:
        return "its host key is not known yet"
    with tempfile.TemporaryDirectory(prefix="curfew-ssh-") as folder:
        key, known = Path(folder) / "key", Path(folder) / "known"
        with os.fdopen(os.open(key, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            file.write(private_key)
        known.write_text(known_hosts(host, port, host_keys))
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
            "GlobalKnownHostsFile": "/dev/null",
            "IdentitiesOnly": "yes",
            "ConnectTimeout": str(CONNECT_SECONDS),
            "LogLevel": "ERROR",
        }
        command = ["ssh", "-F", "/dev/null", "-i", str(key), "-p", str(port)]
        command += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        try:
            done = subprocess.run(  # noqa: S603  our own words; the host is an address told by the provider
                [*command, "--", f"{user}@{host}", "true"],
                capture_output=True,
                text=True,
                timeout=CONNECT_SECONDS * 3,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as bad:
            return f"ssh did not end: {type(bad).__name__}"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["the login was refused"])[-1][:200]
