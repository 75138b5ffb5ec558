"""How a message leaves: Slack, e-mail, signed webhook, browser push. One attempt each; who calls decides about the next."""

from __future__ import annotations

import hashlib
import hmac
import json
import smtplib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core import mail
from django.template.loader import render_to_string

from core import ssrf
from notifications import events, webpush

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
    data: Mapping[str, Any] = field(default_factory=dict)


class SendFailed(Exception):
    """The message did not arrive. `final`: trying again is of no use. `retry_after`: seconds that the other side asked for."""

    def __init__(self, words: str, *, final: bool = False, retry_after: float = 0, status: int = 0) -> None:
        super().__init__(words)
        self.final = final
        self.retry_after = retry_after
        self.status = status


class Gone(SendFailed):
    """The place is no more: forget it."""


def send_slack(url: str, items: Sequence[Item]) -> None:
    """Post to an incoming webhook in Block Kit. Raises SendFailed."""
    blocks: list[dict[str, Any]] = []
    for number, item in enumerate(items[:12]):
        if number:
            blocks.append({"type": "divider"})
        blocks.append(
            {"type": "section", "text": _mrkdwn(f"*{_slack(item.subject)}*\n{_slack(item.body)}"[:SLACK_LIMIT])}
        )
        if item.url:
            button = {
                "type": "button",
                "text": {"type": "plain_text", "text": events.button_of(item.event)},
                "url": item.url,
            }
            blocks.append({"type": "actions", "elements": [button]})
        told = f"{events.label_of(item.event)}, {_slack_time(item.at)}"
        blocks.append({"type": "context", "elements": [_mrkdwn(told)]})
    if len(items) > 12:
        blocks.append({"type": "context", "elements": [_mrkdwn(f"and {len(items) - 12} more")]})
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


def send_email(
    addresses: Sequence[str],
    items: Sequence[Item],
    *,
    unsubscribe: Callable[[str], str] | None = None,
    organization: str = "",
    why: str = "",
    button: str = "",
) -> None:
    """One message in text and HTML to each address alone. Raises SendFailed.

    `unsubscribe` gives the address of the one-click way out for an e-mail address. The Message-ID is the same at each
    attempt, so that mail programs show a message that comes twice once.
    """
    try:
        with mail.get_connection() as connection:
            for address in addresses:
                _email(address, items, unsubscribe, organization, why, button, connection).send()
    except smtplib.SMTPRecipientsRefused as refused:
        raise SendFailed("The mail server refuses the address.", final=True) from refused
    except (OSError, smtplib.SMTPException) as failed:
        raise SendFailed(f"The mail server did not take it: {type(failed).__name__}") from failed


def _email(
    address: str,
    items: Sequence[Item],
    unsubscribe: Callable[[str], str] | None,
    organization: str,
    why: str,
    button: str,
    connection: Any,
) -> mail.EmailMultiAlternatives:
    stop = unsubscribe(address) if unsubscribe else ""
    host = urlsplit(settings.CURFEW_BASE_URL).hostname or "localhost"
    fingerprint = hashlib.sha256(address.encode()).hexdigest()[:8]
    headers = {
        "Auto-Submitted": "auto-generated",
        "X-Curfew-Id": items[0].id,
        "Message-ID": f"<{items[0].id}.{fingerprint}@{host}>",
    }
    if stop:
        headers |= {"List-Unsubscribe": f"<{stop}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    context = {
        "items": [
            {"subject": i.subject, "body": i.body, "url": i.url, "button": button or events.button_of(i.event)}
            for i in items
        ],
        "title": title(items),
        "preview": items[0].body[:140],
        "organization": organization,
        "why": why,
        "unsubscribe_url": stop,
        "base_url": settings.CURFEW_BASE_URL,
    }
    message = mail.EmailMultiAlternatives(
        title(items),
        render_to_string("email/message.txt", context),
        to=[address],
        headers=headers,
        connection=connection,
    )
    message.attach_alternative(render_to_string("email/message.html", context), "text/html")
    return message


def send_push(endpoint: str, keys: Mapping[str, str], items: Sequence[Item], *, urgent: bool) -> None:
    """Push to one browser, encrypted for it. Raises Gone when the browser took its subscription back, else SendFailed.

    The id is the tag of the notification and the topic of the message: what comes twice is shown once.
    """
    first = items[0]
    body = first.body if len(items) == 1 else "\n".join(item.subject for item in items[:5])
    payload = {"id": first.id, "title": title(items), "body": body[:600], "url": first.url if len(items) == 1 else ""}
    data = json.dumps(payload).encode()
    if len(data) > webpush.MOST_BYTES:
        data = json.dumps({**payload, "body": body[:100]}).encode()
    headers = webpush.headers(endpoint, topic=first.id.replace("-", "")[:32], urgent=urgent)
    try:
        _post(endpoint, webpush.encrypt(data, keys["p256dh"], keys["auth"]), headers)
    except SendFailed as failed:
        if failed.status in {404, 410}:
            raise Gone(str(failed), final=True) from failed
        raise


def title(items: Sequence[Item]) -> str:
    return items[0].subject if len(items) == 1 else f"{len(items)} messages from Curfew, first: {items[0].subject}"


def _mrkdwn(text: str) -> dict[str, str]:
    return {"type": "mrkdwn", "text": text}


def _slack_time(at: str) -> str:
    """A moment that Slack shows in the reader's own zone."""
    moment = datetime.fromisoformat(at)
    return f"<!date^{int(moment.timestamp())}^{{date_short_pretty}} {{time}}|{moment:%Y-%m-%d %H:%M} UTC>"


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
    raise SendFailed(
        f"It answered {answer.status}.",
        final=final,
        retry_after=float(wait) if wait.isdigit() else 0,
        status=answer.status,
    )
