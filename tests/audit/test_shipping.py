"""Destinations: in order, at least once, through outages and kills, and never inside our network."""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import socket
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from audit import ocsf, s3, sending, services, shippers
from audit.models import AuditEntry, Sink
from audit.verification import lines_between
from core import clock, ssrf
from core.errors import Forbidden, InvalidInput, NotFound
from tests.audit.test_append_only import write
from tests.notifications.test_ssrf import Server
from tests.personas import Persona

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def local_network(settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


def add(persona: Persona, server: Server, kind: str = "webhook", **more: Any) -> tuple[Sink, str]:
    return services.add_sink(
        actor=persona.actor,
        name=more.pop("name", kind),
        kind=kind,
        options={"url": server.url, **more.pop("options", {})},
        secrets=more.pop("secrets", {}),
        **more,
    )


def got(server: Server) -> list[int]:
    return [json.loads(line)["line"] for _, _, body in server.got for line in body.splitlines()]


def test_every_line_once_in_order_and_signed(alice: Persona, server: Server) -> None:
    write(alice, 3)
    sink, secret = add(alice, server, shape="native")
    write(alice, 450)
    assert services.ship_all() == 451  # the destination's own line is the first
    assert got(server) == list(range(4, 455))
    assert services.ship_all() == 0
    sink.refresh_from_db()
    assert (sink.line, sink.failures, sink.lease_until) == (454, 0, None)
    for _, headers, body in server.got:
        parts = dict(p.split("=", 1) for p in headers["Curfew-Signature"].split(","))
        assert parts["v1"] == hmac.new(secret.encode(), f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()


def test_a_day_of_outage_with_kills_loses_nothing(
    alice: Persona, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """24 simulated hours: the other side is away, answers errors, or takes a batch whose shipper is killed before it notes so."""
    add(alice, server, shape="native")
    dice = random.Random(7)
    original = shippers.ship
    now = clock.now()

    class Killed(BaseException):
        pass

    def unsteady(*args: Any) -> None:
        fate = dice.random()
        if fate < 0.5:
            raise sending.NotShipped("away")
        original(*args)
        if fate < 0.75:
            raise Killed

    monkeypatch.setattr(shippers, "ship", unsteady)
    for minute in range(0, 24 * 60, 10):
        with clock.at(now + timedelta(minutes=minute)):
            write(alice, dice.randrange(5))
            try:
                services.ship_all()
            except Killed:
                Sink.objects.for_org(alice.organization).update(
                    lease_until=clock.now() + timedelta(minutes=2)
                )  # what a kill leaves
    monkeypatch.setattr(shippers, "ship", original)
    with clock.at(now + timedelta(hours=25)):
        services.ship_all()
    total = AuditEntry.objects.for_org(alice.organization).count()
    seen = list(dict.fromkeys(got(server)))
    assert seen == list(range(1, total + 1))  # none lost, each first time in order
    assert len(got(server)) > total  # some came twice, with the same id


def test_a_stalled_shipper_cannot_move_the_cursor(
    alice: Persona, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink, _ = add(alice, server, shape="native")
    write(alice, 3)
    original = shippers.ship

    def overtaken(*args: Any) -> None:
        original(*args)
        Sink.objects.for_org(alice.organization).update(lease=99, line=1)

    monkeypatch.setattr(shippers, "ship", overtaken)
    assert services.ship_to(sink_id=sink.id) == 0
    sink.refresh_from_db()
    assert (sink.line, sink.lease) == (1, 99)


def test_it_waits_longer_each_time_and_says_why(alice: Persona, server: Server) -> None:
    sink, _ = add(alice, server)
    write(alice, 1)
    server.status = 503
    waits = []
    now = clock.now()
    for _ in range(10):
        with clock.at(now):
            services.ship_all()
        sink.refresh_from_db()
        waits.append((sink.not_before - now).total_seconds())
        now = sink.not_before
    assert waits == [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert (sink.error, sink.failures) == ("It answered 503.", 10)


def test_replay_and_test_button(alice: Persona, server: Server) -> None:
    with clock.at(clock.now() - timedelta(days=10)):
        write(alice, 3)
    sink, _ = add(alice, server, shape="native")
    write(alice, 2)
    services.ship_all()
    first = got(server)
    assert services.test_sink(actor=alice.actor, sink_id=sink.id) == ""
    assert got(server)[-1] == 0
    services.replay_sink(actor=alice.actor, sink_id=sink.id, days=5)
    services.seal_organization(organization_id=alice.organization.id)
    services.ship_all()
    assert got(server)[len(first) + 1 :] == [4, 5, 6, 7]
    services.replay_sink(actor=alice.actor, sink_id=sink.id, days=30)
    services.ship_all()
    assert got(server)[len(first) + 5 :][:3] == [1, 2, 3]
    server.status = 500
    assert services.test_sink(actor=alice.actor, sink_id=sink.id) == "It answered 500."


def test_the_forms_of_splunk_and_s3(alice: Persona, server: Server) -> None:
    add(alice, server, "splunk", secrets={"token": "hec-token"})
    add(
        alice,
        server,
        "s3",
        options={"bucket": "logs", "region": "eu-west-1", "endpoint": server.url},
        secrets={"access_key_id": "AK", "secret_access_key": "SK"},
    )
    write(alice, 2)
    Sink.objects.for_org(alice.organization).filter(kind="s3").update(enabled=False)
    services.ship_all()
    path, headers, body = server.got[0]
    assert (path, headers["Authorization"]) == ("/services/collector/event", "Splunk hec-token")
    events = [json.loads(line) for line in body.splitlines()]
    assert [e["event"]["metadata"]["sequence"] for e in events] == [1, 2, 3, 4]
    made = s3.signed_headers(
        "https://s3.eu-west-1.amazonaws.com/logs/a.jsonl",
        b"x",
        "eu-west-1",
        {"access_key_id": "AK", "secret_access_key": "SK"},
    )
    assert made["Authorization"].startswith("AWS4-HMAC-SHA256 Credential=AK/")


def test_splunk_counts_only_when_it_is_indexed(alice: Persona, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sink, _ = add(alice, server, "splunk", secrets={"token": "hec-token"})
    write(alice, 1)
    monkeypatch.setattr(shippers, "ACK_SECONDS", 0.0)
    server.body = b'{"text": "Success", "code": 0, "ackId": 7, "acks": {"7": false}}'
    assert services.ship_all() == 0
    sink.refresh_from_db()
    assert "not indexed" in sink.error
    assert [path.partition("?")[0] for path, _, _ in server.got] == [
        "/services/collector/event",
        "/services/collector/ack",
    ]
    channel = server.got[0][1]["X-Splunk-Request-Channel"]
    assert server.got[1][0].endswith(f"?channel={channel}")
    server.body = b'{"ackId": 8, "acks": {"8": true}}'
    with clock.at(sink.not_before):
        assert services.ship_all() == 2


def test_a_destination_without_its_secret_does_not_hold_up_the_others(alice: Persona, server: Server) -> None:
    lost, _ = add(alice, server, "splunk", secrets={"token": "hec-token"})
    add(alice, server, shape="native")
    Sink.objects.for_org(alice.organization).filter(id=lost.id).update(secrets="v1.gone.AAAA")
    write(alice, 1)
    assert services.ship_all() == 3
    lost.refresh_from_db()
    assert "cannot be opened" in lost.error


def test_datadog_never_gets_more_than_it_takes(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[bytes] = []
    monkeypatch.setattr(ssrf, "post", lambda url, body, headers, **more: sent.append(body) or ssrf.Answer(202, {}, b""))
    services.add_sink(
        actor=alice.actor, name="dd", kind="datadog", options={"site": "datadoghq.eu"}, secrets={"api_key": "k"}
    )
    for _ in range(3):
        services.record_alone(actor=alice.actor, verb="access.denied", changes={"n": [None, "x" * 1_100_000]})
    services.seal_all()
    assert services.ship_all() == 4
    assert max(map(len, sent)) < 1_000_000
    assert all(b"truncated" in body for body in sent[1:])


def test_datadog_gets_an_array_with_the_key_in_its_header(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[str, bytes, Any]] = []

    def post(url: str, body: bytes, headers: Any, **more: Any) -> ssrf.Answer:
        sent.append((url, body, headers))
        return ssrf.Answer(202, {}, b"{}")

    monkeypatch.setattr(ssrf, "post", post)
    sink, _ = services.add_sink(
        actor=alice.actor, name="dd", kind="datadog", options={"site": "datadoghq.eu"}, secrets={"api_key": "dd-key"}
    )
    write(alice, 2)
    assert services.ship_all() == 3
    ((url, body, headers),) = sent
    assert (url, headers["DD-API-KEY"]) == ("https://http-intake.logs.datadoghq.eu/api/v2/logs", "dd-key")
    logs = json.loads(body)
    assert [json.loads(entry["message"])["metadata"]["uid"] for entry in logs] == [entry["id"] for entry in logs]
    assert "dd-key" not in repr(vars(sink))


def test_the_signature_is_the_one_of_the_sdk() -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    url, data = "https://s3.eu-west-1.amazonaws.com/logs/curfew-audit/o/00001-00002.jsonl", b'{"a":1}\n'
    ours = s3.signed_headers(url, data, "eu-west-1", {"access_key_id": "AK", "secret_access_key": "SK"})
    request = AWSRequest(
        "PUT",
        url,
        headers={"x-amz-content-sha256": ours["x-amz-content-sha256"], "X-Amz-Date": ours["x-amz-date"]},
        data=data,
    )
    signer = S3SigV4Auth(Credentials("AK", "SK"), "s3", "eu-west-1")
    request.context["timestamp"] = ours["x-amz-date"]
    request.context["payload_signing_enabled"] = True
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert ours["Authorization"].endswith(f"Signature={signer.signature(text, request)}")


def test_syslog_frames(alice: Persona) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        peer, _ = listener.accept()
        with peer:
            while data := peer.recv(65536):
                received.append(data)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    services.add_sink(
        actor=alice.actor,
        name="syslog",
        kind="syslog",
        options={"host": "127.0.0.1", "port": listener.getsockname()[1], "tls": False},
        secrets={},
    )
    write(alice, 2)
    assert services.ship_all() == 3
    thread.join(5)
    listener.close()
    data, frames = b"".join(received), []
    while data:
        size, _, rest = data.partition(b" ")
        frames.append(rest[: int(size)])
        data = rest[int(size) :]
    assert len(frames) == 3
    assert frames[1].startswith(b"<110>1 20")


def test_ocsf(alice: Persona) -> None:
    write(alice, 1)
    services.record_alone(actor=alice.actor, verb="user.sign_in_failed", outcome="failed")
    services.seal_organization(organization_id=alice.organization.id)
    first, second = (ocsf.event(line) for line in lines_between(alice.organization.id, 0))
    assert (first["class_uid"], first["type_uid"], first["category_uid"]) == (6003, 600399, 6)
    assert (second["class_uid"], second["type_uid"], second["status_id"], second["severity_id"]) == (3002, 300201, 2, 2)
    assert first["metadata"]["uid"] == first["unmapped"]["entry"]["id"]


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"kind": "webhook", "options": {"url": "http://169.254.169.254/"}}, "url"),
        ({"kind": "webhook", "options": {"url": ""}}, "url"),
        ({"kind": "splunk", "options": {"url": "http://127.0.0.1/"}}, "token"),
        ({"kind": "datadog", "options": {"site": "evil.example"}, "secrets": {"api_key": "x"}}, "site"),
        ({"kind": "syslog", "options": {"host": "127.0.0.1", "port": "many"}}, "port"),
        ({"kind": "syslog", "options": {"host": "10.0.0.1", "port": 514}}, "host"),
        ({"kind": "pigeon", "options": {}}, "kind"),
    ],
)
def test_bad_input_names_its_field(alice: Persona, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.add_sink(actor=alice.actor, name="x", **{"secrets": {}, **asked})
    assert list(refused.value.errors) == [field]


def test_who_may(alice: Persona, bob: Persona, mallory: Persona, server: Server) -> None:
    sink, secret = add(alice, server)
    with pytest.raises(Forbidden):
        add(bob, server)
    with pytest.raises(Forbidden):
        services.test_sink(actor=bob.actor, sink_id=sink.id)
    with pytest.raises(NotFound):
        services.remove_sink(actor=mallory.actor, sink_id=sink.id)
    assert secret not in repr(vars(sink))
    services.remove_sink(actor=alice.actor, sink_id=sink.id)
