"""Every route, as every kind of caller. A route that is not listed fails."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.access import matrix
from tests.access.matrix import ROLES, Route, World
from tests.personas import make_organization, make_person

WORLD_SECONDS = 60.0


def _patterns(resolver: URLResolver, prefix: str = "") -> list[str]:
    found = []
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            found.extend(_patterns(entry, route))
        elif isinstance(entry, URLPattern):
            found.append(route)
    return found


class Standing:
    """A world in an open transaction, for many routes: building it takes longer than calling one.

    Each call on it is undone. When it is old it is built anew, before its leases and tokens run out; so a test asks for
    `world` before `db`, whose own transaction is inside.
    """

    def __init__(self) -> None:
        self._open: transaction.Atomic | None = None
        self._world: World | None = None
        self._since = 0.0
        self.spent = False

    def world(self) -> World:
        if self._world is None or self.spent or time.monotonic() - self._since > WORLD_SECONDS:
            self.close()
            self._open = transaction.atomic()
            self._open.__enter__()
            self._world, self._since, self.spent = _built(), time.monotonic(), False
        return self._world

    def close(self) -> None:
        if self._open is not None:
            transaction.set_rollback(True)
            self._open.__exit__(None, None, None)
        self._open = self._world = None


def _built() -> World:
    larkspur = make_organization("Larkspur")
    people = (
        make_person(name, larkspur, role)
        for name, role in (("alice", "owner"), ("bob", "viewer"), ("olga", "operator"))
    )
    made = World(*people, make_person("mallory", make_organization("Harbour"), "owner"))
    for build in matrix.builders():
        build(made)
    return made


@pytest.fixture(scope="module")
def standing(django_db_setup: None, django_db_blocker: Any) -> Iterator[Standing]:
    made = Standing()
    with django_db_blocker.unblock():
        yield made
        made.close()


@pytest.fixture
def world(standing: Standing, settings: Any) -> World:
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999988887777"
    return standing.world()


def _caller(world: World, role: str) -> Client:
    client = Client(raise_request_exception=False)
    person = {"viewer": world.bob, "operator": world.olga, "owner": world.alice, "stranger": world.mallory}.get(role)
    if person:
        client.force_login(person.user)
    return client


@pytest.mark.parametrize("route", matrix.all_routes(), ids=lambda r: r.label)
def test_each_route_answers_each_caller_as_listed(route: Route, world: World, db: None, standing: Standing) -> None:
    standing.spent = route.lasting
    wrong = [f"{role}: {problem}" for role in ROLES if (problem := _undone(route, role, world))]
    assert wrong == []


def _undone(route: Route, role: str, world: World) -> str:
    """Call the route as the role and take back what it did; what is wrong with the answer, or ""."""
    with transaction.atomic():
        try:
            return _judge(route, role, world)
        finally:
            transaction.set_rollback(True)


def _judge(route: Route, role: str, world: World) -> str:
    path = route.path.format(**world.ids)
    wanted = getattr(route, role)
    kwargs = {"content_type": "application/json"} if route.api and route.method != "GET" else {}
    body = {name: value.format(**world.ids) if isinstance(value, str) else value for name, value in route.body.items()}
    answer = getattr(_caller(world, role), route.method.lower())(path, body, **kwargs)
    allowed = {wanted, *(route.anyof if wanted < 300 else ())}
    if answer.status_code not in allowed:
        return f"{answer.status_code} instead of {wanted}: {answer.getvalue()[:300]!r}"
    if role == "stranger" and wanted == 200:
        content = answer.getvalue()  # of a stream too
        ours = {name: value for name, value in world.ids.items() if name != "theirs"}
        leaked = [
            name
            for name, value in {**ours, "organization": str(world.alice.organization.id)}.items()
            if value.encode() in content
        ]
        return f"a stranger's answer names our {leaked}" if leaked else ""
    return ""


def _canonical(route: str) -> str:
    """One name for the mounts of the API and for a route with and without its last slash."""
    for mount in ("api/v1/", "budgetguard/api/"):
        if route.startswith(mount):
            route = "api/" + route.removeprefix(mount)
    return route.rstrip("/")


def test_every_route_is_listed(world: World, db: None) -> None:
    listed = {
        _canonical(resolve(route.path.format(**world.ids).partition("?")[0]).route) for route in matrix.all_routes()
    }
    exempt = matrix.exempt_patterns()
    patterns = dict.fromkeys(_patterns(get_resolver()))
    assert [p for p in patterns if _canonical(p) not in listed and not any(p.startswith(e) for e in exempt)] == []


def test_the_second_mount_of_the_api_is_the_same() -> None:
    """/api/v1/ includes the very same patterns as /api/, so that what holds for one holds for the other."""
    patterns = set(_patterns(get_resolver()))
    first = {p.removeprefix("api/") for p in patterns if p.startswith("api/") and not p.startswith("api/v1/")}
    second = {p.removeprefix("api/v1/") for p in patterns if p.startswith("api/v1/")}
    assert first - second == {"schema/", "docs/"}
    assert second - first == set()
