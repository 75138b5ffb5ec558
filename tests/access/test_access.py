"""Every route, as every kind of caller. A route that is not listed fails."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver, resolve

from tests.access import matrix
from tests.access.matrix import ROLES, Route, World
from tests.personas import Persona


def _patterns(resolver: URLResolver, prefix: str = "") -> list[str]:
    found = []
    for entry in resolver.url_patterns:
        route = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            found.extend(_patterns(entry, route))
        elif isinstance(entry, URLPattern):
            found.append(route)
    return found


@pytest.fixture
def world(alice: Persona, bob: Persona, olga: Persona, mallory: Persona, settings: object) -> World:
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999988887777"
    made = World(alice, bob, olga, mallory)
    for build in matrix.builders():
        build(made)
    return made


def _caller(world: World, role: str) -> Client:
    client = Client(raise_request_exception=False)
    person = {"viewer": world.bob, "operator": world.olga, "owner": world.alice, "stranger": world.mallory}.get(role)
    if person:
        client.force_login(person.user)
    return client


@pytest.mark.django_db
@pytest.mark.parametrize("route", matrix.all_routes(), ids=lambda r: r.label)
def test_each_route_answers_each_caller_as_listed(route: Route, world: World) -> None:
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


@pytest.mark.django_db
def test_every_route_is_listed(world: World) -> None:
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
