"""How lines leave for a destination: one attempt for one batch. Who calls keeps order, cursor and retries.

Every event carries the id of its entry, the same at each attempt, so that the other side can drop what comes twice.
"""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import NAMESPACE_URL, UUID, uuid5

from audit import chain, ocsf, s3
from audit.enums import Shipping, SinkKind
from audit.sending import NotShipped, check, signature
from audit.verification import Line
from core import clock, ssrf

DATADOG_MOST = 950_000
ACK_SECONDS = 10.0


def ship(kind: str, shape: str, options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line]) -> None:
    """Send the lines in order and return when the other side has confirmed them. Raises NotShipped."""
    bodies = [ocsf.event(line) if shape == Shipping.OCSF else _native(line) for line in lines]
    try:
        _SENDERS[SinkKind(kind)](options, secrets, lines, bodies)
    except (ssrf.Refused, ssrf.Unreachable) as away:
        raise NotShipped(away.message) from away
    except KeyError as missing:
        raise NotShipped(f"Its setting {missing} is missing. Remove the destination and add it again.") from missing
    except OSError as broken:
        raise NotShipped(f"The connection broke: {type(broken).__name__}") from broken


def _native(line: Line) -> dict[str, Any]:
    return {"line": line.line, "prev_hash": line.prev_hash, "hash": line.hash, "entry": line.content}


def _dump(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def _datadog(
    options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line], bodies: Sequence[dict[str, Any]]
) -> None:
    logs = [
        {"ddsource": "curfew", "service": "curfew-audit", "id": str(line.entry_id), "message": _fitting(line, body)}
        for line, body in zip(lines, bodies, strict=True)
    ]
    url = f"https://http-intake.logs.{options['site']}/api/v2/logs"
    check(
        ssrf.post(
            url, _dump(logs).encode(), {"Content-Type": "application/json", "DD-API-KEY": str(secrets["api_key"])}
        )
    )


def _fitting(line: Line, body: Mapping[str, Any]) -> str:
    """The event as Datadog takes it, 1 MB at most: of a larger one the changes stay behind, and it says so."""
    text = _dump(body)
    if len(text.encode()) <= DATADOG_MOST:
        return text
    small = replace(line, content={**(line.content or {}), "changes": {}})
    slim = ocsf.event(small) if "class_uid" in body else _native(small)
    return _dump({**slim, "truncated": "the changes are in Curfew's own log"})


def _splunk(
    options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line], bodies: Sequence[dict[str, Any]]
) -> None:
    events = []
    for line, body in zip(lines, bodies, strict=True):
        at = datetime.fromisoformat(str((line.content or {})["at"])).timestamp()
        events.append(
            _dump(
                {
                    "time": at,
                    "source": "curfew",
                    "sourcetype": "curfew:audit",
                    "fields": {"event_id": str(line.entry_id)},
                    "event": body,
                }
            )
        )
    base = f"{str(options['url']).rstrip('/')}/services/collector"
    channel = str(uuid5(NAMESPACE_URL, base + str((lines[0].content or {}).get("organization", ""))))
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Splunk {secrets['token']}",
        "X-Splunk-Request-Channel": channel,
    }
    answer = ssrf.post(f"{base}/event", "\n".join(events).encode(), headers)
    check(answer)
    try:
        ack = json.loads(answer.body).get("ackId")
    except (ValueError, AttributeError):
        ack = None
    if isinstance(ack, int):
        _wait_for_index(f"{base}/ack?channel={channel}", ack, headers)


def _wait_for_index(url: str, ack: int, headers: Mapping[str, str]) -> None:
    """With indexer acknowledgment on, taken is not yet kept: ask until Splunk says that it is, or send again later."""
    until = time.monotonic() + ACK_SECONDS
    while True:
        answer = ssrf.post(url, _dump({"acks": [ack]}).encode(), headers)
        check(answer)
        try:
            if json.loads(answer.body)["acks"][str(ack)] is True:
                return
        except (ValueError, KeyError, TypeError):
            raise NotShipped("Its acknowledgment cannot be read.") from None
        if time.monotonic() > until:
            raise NotShipped("It took the lines and has not indexed them yet.")
        time.sleep(0.25)


def _webhook(
    options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line], bodies: Sequence[dict[str, Any]]
) -> None:
    data = "".join(f"{_dump(body)}\n" for body in bodies).encode()
    headers = {
        "Content-Type": "application/x-ndjson",
        "Curfew-Signature": signature(str(secrets["secret"]), data),
        "Curfew-Lines": f"{lines[0].line}-{lines[-1].line}",
    }
    check(ssrf.post(str(options["url"]), data, headers))


def _syslog(
    options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line], bodies: Sequence[dict[str, Any]]
) -> None:
    """RFC 5424 over TCP, with TLS unless the options say no; each message with its length before it (RFC 6587)."""
    del secrets
    frames = []
    for line, body in zip(lines, bodies, strict=True):
        content = line.content or {}
        head = f"<{13 * 8 + (6 if content.get('outcome') == 'success' else 4)}>1 {content.get('at')} curfew audit - {line.entry_id.hex} - "
        data = (head + _dump(body)).encode()
        frames.append(f"{len(data)} ".encode() + data)
    host, port = str(options["host"]), int(options["port"])
    with socket.create_connection((ssrf.resolve(host, port), port), ssrf.TIMEOUT) as plain:
        if options.get("tls", True):
            with ssl.create_default_context().wrap_socket(plain, server_hostname=host) as tls:
                tls.sendall(b"".join(frames))
                tls.unwrap()
        else:
            plain.sendall(b"".join(frames))
            plain.shutdown(socket.SHUT_WR)
            plain.recv(1)  # the end of the other side's stream, or its reset


def _s3(
    options: Mapping[str, Any], secrets: Mapping[str, Any], lines: Sequence[Line], bodies: Sequence[dict[str, Any]]
) -> None:
    """One object a batch, named by its lines: sent again, it replaces itself."""
    data = "".join(f"{_dump(body)}\n" for body in bodies).encode()
    organization = (lines[0].content or {}).get("organization", "unknown")
    key = f"{str(options.get('prefix') or 'curfew-audit').strip('/')}/{organization}/{lines[0].line:020d}-{lines[-1].line:020d}.jsonl"
    base = str(options.get("endpoint") or f"https://s3.{options['region']}.amazonaws.com").rstrip("/")
    url = f"{base}/{options['bucket']}/{quote(key)}"
    check(ssrf.post(url, data, s3.signed_headers(url, data, str(options["region"]), secrets), method="PUT"))


_SENDERS = {
    SinkKind.DATADOG: _datadog,
    SinkKind.SPLUNK: _splunk,
    SinkKind.WEBHOOK: _webhook,
    SinkKind.SYSLOG: _syslog,
    SinkKind.S3: _s3,
}


def probe(organization: str) -> Line:
    """A harmless line for the test button; its line is 0, which no chain has."""
    content: dict[str, Any] = dict.fromkeys(chain.FIELDS, "") | {
        "id": "00000000-0000-0000-0000-000000000000",
        "organization": organization,
        "seq": 0,
        "at": clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "actor_kind": "system",
        "actor_id": "curfew",
        "actor_label": "Curfew",
        "verb": "sink.tested",
        "outcome": "success",
        "changes": {},
        "detail": "Test message: nothing has happened",
        "operation_id": None,
    }
    return Line(0, chain.GENESIS, chain.GENESIS, UUID(int=0), content)
