"""What everything that sends lines or checkpoints outside shares."""

from __future__ import annotations

import hashlib
import hmac
import time

from core import ssrf
from core.errors import CurfewError


class NotShipped(CurfewError):
    """It was not confirmed; the message says why, without secrets."""

    status = 503
    code = "not_shipped"


def check(answer: ssrf.Answer) -> None:
    """Raises NotShipped unless the other side said yes."""
    if not 200 <= answer.status < 300:
        raise NotShipped(f"It answered {answer.status}.")


def signature(secret: str, data: bytes) -> str:
    """What proves to a webhook who sent the bytes, and when: `t=seconds,v1=HMAC-SHA256 of "seconds." and the bytes`."""
    moment = int(time.time())
    return f"t={moment},v1={hmac.new(secret.encode(), f'{moment}.'.encode() + data, hashlib.sha256).hexdigest()}"
