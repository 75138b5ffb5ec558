"""Lines as events of OCSF 1.4: what the schema requires is there, of the right type, and nothing is null."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from audit import ocsf, verbs
from audit.verification import Line

# The part of the OCSF 1.4 schema that the two classes and their objects use: required attributes, the groups of which at
# least one is needed, and the captions of the enumerations.
REQUIRED: dict[str, set[str]] = {
    "base": {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"},
    "3002": {"user"},
    "6003": {"actor", "api", "src_endpoint"},
    "metadata": {"product", "version"},
    "product": {"vendor_name"},
    "api": {"operation"},
    "request": {"uid"},
}
ONE_OF: dict[str, set[str]] = {
    "3002": {"service", "dst_endpoint"},
    "actor": {"user", "process", "session", "invoked_by", "app_name", "app_uid", "idp"},
    "user": {"account", "name", "uid"},
    "service": {"name", "uid"},
    "src_endpoint": {"ip", "uid", "name", "hostname", "svc_name", "instance_uid", "interface_uid", "domain"},
    "resources": {"name", "uid"},
    "product": {"name", "uid"},
}
ACTIVITIES = {3002: {0, 1, 2, 3, 4, 5, 6, 7, 99}, 6003: {0, 1, 2, 3, 4, 99}}
SEVERITIES, STATUSES, USER_TYPES = range(7), {0: "Unknown", 1: "Success", 2: "Failure"}, {1: "User", 3: "System"}


def problems(name: str, value: Any) -> list[str]:
    """What an object of the event lacks, and every null or empty text in it."""
    if value is None or value == "":
        return [f"{name} is empty"]
    if isinstance(value, list):
        return [p for item in value for p in problems(name, item)]
    if not isinstance(value, dict) or name == "unmapped":
        return []
    found = [f"{name} lacks {needed}" for needed in REQUIRED.get(name, set()) - value.keys()]
    if name in ONE_OF and not ONE_OF[name] & value.keys():
        found.append(f"{name} has none of {sorted(ONE_OF[name])}")
    return found + [p for key, inner in value.items() for p in problems(key, inner)]


def line(**given: Any) -> Line:
    bare = dict.fromkeys(("target_kind", "target_id", "target_label", "detail", "ip", "user_agent", "request_id"), "")
    content = {
        **bare,
        "id": "5a0f",
        "organization": "0b6f",
        "at": "2026-11-21T14:02:11.418Z",
        "actor_kind": "user",
        "actor_id": "7",
        "actor_label": "Alice",
        "verb": "access.denied",
        "outcome": "success",
        **given,
    }
    return Line(1, "0" * 64, "1" * 64, UUID(int=7), content)


FULL = {
    "target_kind": "node",
    "target_id": "1",
    "target_label": "n",
    "ip": "203.0.113.9",
    "user_agent": "x",
    "request_id": "r",
}


@pytest.mark.parametrize("given", [{}, FULL], ids=["bare", "full"])
@pytest.mark.parametrize("outcome", ["success", "failed", "denied"])
def test_every_verb_is_a_valid_event(given: dict[str, str], outcome: str) -> None:
    for verb in verbs.all_verbs():
        for kind in ("user", "system", "api_key", "agent"):
            event = ocsf.event(line(verb=verb.name, outcome=outcome, actor_kind=kind, **given))
            which = str(event["class_uid"])
            assert [*problems("base", event), *problems(which, event)] == [], verb
            assert event["activity_id"] in ACTIVITIES[event["class_uid"]]
            assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
            assert event["category_uid"] == event["class_uid"] // 1000
            assert event["severity_id"] in SEVERITIES
            assert STATUSES[event["status_id"]] == event["status"]
            user = event["actor"]["user"]
            assert USER_TYPES[user["type_id"]] == user["type"]
            assert isinstance(event["time"], int)


def test_what_a_refusal_says() -> None:
    event = ocsf.event(line(outcome="denied", detail="Needs nodes.operate.", **FULL))
    assert (event["class_uid"], event["status"], event["severity_id"]) == (6003, "Failure", 3)
    assert event["status_detail"] == "Needs nodes.operate."
    assert event["time"] == 1795269731418
    assert event["src_endpoint"] == {"ip": "203.0.113.9"}
    assert event["resources"] == [{"uid": "1", "name": "n", "type": "node"}]
