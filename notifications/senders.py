"""How a message leaves: Slack, e-mail, signed webhook. One attempt each; who calls decides about the next."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.core.mail import EmailMessage

from core import ssrf
from notifications import events

SLACK_LIMIT = 2900


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to tell."""

    id: str
    event: str
    subject: str
    body: str
    url: str
    at: str


class SendFailed(Exception):
    """The message did not arrive. `final`: trying again is of no use. `retry_after`: seconds that the other side asked for."""

    def __init__(self, words: str, *, final: bool = False, retry_after: float = 0) -> None:
        super().__init__(words)
        self.final = final
        self.retry_after = retry_after


def send_slack(url: str, items: Sequence[Item]) -> None:
    """Post to an incoming webhook in Block Kit. Raises SendFailed."""
    blocks: list[dict[str, Any]] = []
    for item in items[:12]:
        words = f"*{_slack(item.subject)}*\n{_slack(item.body)}"[:SLACK_LIMIT]
        blocks.append({"type": "section", "text": {"type": "mrkdwn", "text": words}})
        if item.url:
            button = {"type": "button", "text": {"type": "plain_text", "text": _button(item.event)}, "url": item.url}
            blocks.append({"type": "actions", "elements": [button]})
    if len(items) > 12:
        blocks.append({"type": "context", "elements": [{"type": "mrkdwn", "text": f"and {len(items) - 12} more"}]})
    _post(url, {"text": _slack(title(items)), "blocks": blocks}, {})


def send_webhook(url: str, secret: str, items: Sequence[Item]) -> None:
    """Post JSON `{"id", "events": [...]}` with `Curfew-Signature: t=<unix>,v1=<hex HMAC-SHA256 of "t.body">`. Raises SendFailed.

    The id is that of the first message and the same at each attempt, so that the receiver can drop what comes twice.
    """
    payload = {"id": items[0].id, "events": [{name: getattr(item, name) for name in Item.__slots__} for item in items]}
    body = json.dumps(payload, sort_keys=True).encode()
    moment = int(time.time())
    _post(url, body, {"Curfew-Signature": f"t={moment},v1={signature(secret, moment, body)}", "Curfew-Id": items[0].id})


def signature(secret: str, moment: int, body: bytes) -> str:
    """What a receiver compares with `v1` of the header."""
    return hmac.new(secret.encode(), f"{moment}.".encode() + body, hashlib.sha256).hexdigest()


def send_email(addresses: Sequence[str], items: Sequence[Item], unsubscribe_url: str = "") -> None:
    """One plain-text message to each address alone. Raises SendFailed."""
    text = "\n\n".join("\n".join(filter(None, (item.subject, item.body, item.url))) for item in items)
    headers: dict[str, str] = {"Auto-Submitted": "auto-generated", "X-Curfew-Id": items[0].id}
    if unsubscribe_url:
        text += f"\n\n-- \nYou get this because you asked Curfew for it. Stop: {unsubscribe_url}\n"
        headers |= {"List-Unsubscribe": f"<{unsubscribe_url}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    subject = " ".join(title(items).split())
    try:
        for address in addresses:
            EmailMessage(subject, text, to=[address], headers=headers).send()
    except smtplib.SMTPRecipientsRefused as refused:
        raise SendFailed("The mail server refuses the address.", final=True) from refused
    except (OSError, smtplib.SMTPException) as failed:
        raise SendFailed(f"The mail server did not take it: {type(failed).__name__}") from failed


def _button(event: str) -> str:
    try:
        return events.get(event).button
    except KeyError:  # sent by an older version
        return "Open in Curfew"


def title(items: Sequence[Item]) -> str:
    return items[0].subject if len(items) == 1 else f"{len(items)} messages from Curfew, first: {items[0].subject}"


def _slack(text: str) -> str:
    """Text without Slack's control sequences, so that a name cannot mention a channel or forge a link."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _post(url: str, body: bytes | Mapping[str, Any], headers: Mapping[str, str]) -> None:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        answer = ssrf.post(url, data, {"Content-Type": "application/json", **headers})
    except ssrf.Refused as refused:
        raise SendFailed(refused.message, final=True) from refused
    except ssrf.Unreachable as away:
        raise SendFailed(away.message) from away
    if 200 <= answer.status < 300:
        return
    final = 300 <= answer.status < 500 and answer.status not in {408, 425, 429}
    wait = answer.headers.get("retry-after", "")
    raise SendFailed(f"It answered {answer.status}.", final=final, retry_after=float(wait) if wait.isdigit() else 0)
