"""Secrets that were put in come out nowhere: not in the database, logs, pages, diffs, exports or error reports."""

from __future__ import annotations

import base64
import io
import logging
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from accounts import services as accounts
from accounts import vault
from audit import services as audit
from core import encryption, logs
from notifications import services as notifications
from tests.access import matrix
from tests.access.matrix import World
from tests.campaigns.api_fuzz import no_network
from tests.personas import Persona

pytestmark = pytest.mark.django_db
OLD = "k1:" + base64.b64encode(b"1" * 32).decode()
NEW = "k2:" + base64.b64encode(b"2" * 32).decode()
ClientOf = Callable[[Persona], Client]


def database_text() -> str:
    """Every value of every table."""
    parts = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT * FROM "{table}"')
            parts += [f"{table}.{row!r}" for row in cursor.fetchall()]
    return "\n".join(parts)


@pytest.fixture
def log_text() -> Iterator[io.StringIO]:
    """All that any logger says, as the server would write it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(logs.JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    logging.getLogger("django.db.backends").setLevel(logging.WARNING)
    yield out
    root.removeHandler(handler)
    root.setLevel(level)


def plant(alice: Persona, client: Client, settings: Any) -> list[str]:
    """Give the platform every kind of secret that it takes or makes; what they were."""
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]
    made = [secrets.token_urlsafe(24) for _ in range(8)]
    actor = alice.actor
    for number, (kind, options, names) in enumerate(
        [
            ("splunk", {"url": "http://127.0.0.1:9"}, ("token",)),
            ("s3", {"bucket": "b", "region": "eu-west-1"}, ("access_key_id", "secret_access_key")),
            ("datadog", {"site": "datadoghq.eu"}, ("api_key",)),
        ]
    ):
        values = dict(zip(names, made[number * 2 :], strict=False))
        audit.add_sink(actor=actor, name=f"{kind} sink", kind=kind, options=options, secrets=values)
    made.append(
        audit.add_sink(actor=actor, name="hook", kind="webhook", options={"url": "http://127.0.0.1:9/a"}, secrets={})[1]
    )
    made.append(
        notifications.add_channel(
            actor=actor, name="hook", kind="webhook", url=f"http://127.0.0.1:9/{made[6]}", events=[]
        )[1]
    )
    made.append(accounts.create_api_key(actor=actor, name="ci", scopes=["members.view"])[1])
    enrolment = accounts.create_enrolment_token(actor=actor, kind="cluster", name="agent")[1]
    made += [enrolment, accounts.mint_agent_token(enrolment=enrolment, name="agent")[1]]
    body = {"provider": "aws", "method": "keys", "name": "Farm", "region": "us-east-1"}
    keys = {"access_key_id": "AKIA" + secrets.token_hex(8).upper(), "secret_access_key": made[7]}
    answer = client.post("/api/client/accounts/connect", {**body, **keys}, content_type="application/json")
    assert answer.status_code < 500 or answer.status_code == 503
    assert made[7] not in answer.content.decode()
    made.append(keys["access_key_id"])
    Client().post("/login", {"email": alice.email, "login": alice.email, "password": made[5]})
    return [secret for secret in made if secret]


def test_planted_secrets_are_found_nowhere(
    world: World, client_of: ClientOf, settings: Any, log_text: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, client = world.alice, client_of(world.alice)
    client.raise_request_exception = False
    with no_network():
        planted = plant(alice, client, settings)
        audit.record_alone(
            actor=alice.actor,
            verb="access.denied",
            changes={"password": [planted[0], planted[1]], "deep": [None, {"api_key": planted[2]}]},
            detail=f"password={planted[3]} at https://me:{planted[4]}@host/",
        )
        audit.seal_all()
        audit.ship_all()  # every destination fails, and says why
        for route in matrix.all_routes():
            if route.method == "GET" and route.owner == 200:
                shown = client.get(route.path.format(**world.ids)).getvalue().decode("utf-8", "replace")
                assert not [s[:5] for s in planted if s in shown], route.label
    for kind in ("csv", "jsonl"):
        text = b"".join(audit.start_export(actor=alice.actor, file_format=kind, period="all").chunks).decode()
        assert not [s[:5] for s in planted if s in text]

    def broken(*args: Any, **more: Any) -> Any:
        raise RuntimeError(f"cannot log in with password={planted[0]} to https://u:{planted[1]}@h, Bearer {planted[2]}")

    monkeypatch.setattr("audit.selectors.window", broken)
    answer = client.get("/audit/")
    assert answer.status_code == 500
    places = {"error page": answer.content.decode(), "logs": log_text.getvalue(), "database": database_text()}
    assert "cannot log in" in places["logs"]
    for name, text in places.items():
        assert not [s[:5] for s in planted if s in text], name


def test_no_text_keeps_an_old_key_after_a_rotation(alice: Persona, client_of: ClientOf, settings: Any) -> None:
    settings.CURFEW_ENCRYPTION_KEYS = OLD
    with no_network():
        plant(alice, client_of(alice), settings)
    assert database_text().count("v1.k1.") >= 5
    settings.CURFEW_ENCRYPTION_KEYS = f"{NEW},{OLD}"
    results = vault.reseal_all()
    assert sum(r.failed for r in results) == 0
    assert "v1.k1." not in database_text()
    assert {r.done + r.fresh for r in vault.reseal_all()} == {r.done + r.fresh for r in results}
    settings.CURFEW_ENCRYPTION_KEYS = NEW
    from audit.models import Sink

    for sink in Sink.objects.all_orgs():
        assert encryption.unseal(sink.secrets, bound_to=f"sink:{sink.id}")
