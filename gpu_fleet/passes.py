"""Short-lived passes for one machine's repository, where that is reached through this server. Signed, not stored."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.core import signing

from core import clock
from gpu_fleet.providers.storage import LIFETIME_SECONDS

SALT = "gpu_fleet.repository"
USER = "machine"


@dataclass(frozen=True, slots=True)
class Pass:
    """Who may reach which repository: `machine` on this `rental`, that of `owner`, until then, for this order."""

    machine: UUID
    owner: UUID
    rental: UUID
    until: datetime
    operation: UUID | None = None


def issue(*, machine: UUID, owner: UUID, rental: UUID, operation: UUID | None = None) -> str:
    """The text of a pass that is good from now on for as long as keys of a bucket are."""
    told: dict[str, Any] = {
        "m": machine.hex,
        "o": owner.hex,
        "r": rental.hex,
        "u": int(clock.now().timestamp()) + LIFETIME_SECONDS,
        "p": operation.hex if operation else "",
    }
    return signing.dumps(told, salt=SALT)


def read(text: str) -> Pass | None:
    """What a pass says, over or not; None when it was not signed here."""
    try:
        told = signing.loads(text, salt=SALT)
        until = datetime.fromtimestamp(told["u"], tz=clock.now().tzinfo)
        operation = UUID(told["p"]) if told["p"] else None
        return Pass(UUID(told["m"]), UUID(told["o"]), UUID(told["r"]), until, operation)
    except (signing.BadSignature, KeyError, TypeError, ValueError):
        return None


def of_header(authorization: str) -> str | None:
    """The pass in a basic `Authorization` header; None when there is none."""
    scheme, _, rest = authorization.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, _, text = base64.b64decode(rest.strip(), validate=True).decode("ascii").partition(":")
    except (binascii.Error, ValueError):
        return None
    return text if user == USER and text else None
