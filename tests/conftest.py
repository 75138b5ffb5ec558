"""Fixtures that every test may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.core import management
from django.core.cache import cache
from django.db import connection, connections
from django.template.backends.django import Template
from django.test import Client, SimpleTestCase
from rest_framework.test import APIClient

from accounts import tokens
from core import marks
from core.memory import settle_memory
from tests import prepared
from tests.audit.unsealed import flush_may_empty_the_audit_log  # noqa: F401  a fixture for every test
from tests.personas import Persona, make_organization, make_person

ROOT = Path(__file__).resolve().parents[1]
# A loaded machine is no finding: examples may be slow to make, and each may take its time.
# The suite's examples are the same each time; `HYPOTHESIS_PROFILE=search` looks for new ones.
QUIET = {"deadline": None, "suppress_health_check": [hypothesis.HealthCheck.too_slow]}
hypothesis.settings.register_profile("search", **QUIET)
hypothesis.settings.register_profile("suite", **QUIET, derandomize=True)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "suite"))


_DATABASE_FIXTURES = frozenset(
    {"db", "transactional_db", "django_db_reset_sequences", "django_db_serialized_rollback", "django_db_setup"}
    | {"live_server"}
)


def uses_the_database(item: pytest.Item) -> bool:
    """Whether a test's outcome can depend on which database there is."""
    if item.get_closest_marker("django_db") or item.get_closest_marker("pg"):
        return True
    if not _DATABASE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
        return True
    return issubclass(getattr(item, "cls", None) or object, SimpleTestCase)


MARKERS_ON_THEIR_OWN = {"e2e": "e2e", "e2e and not alone": "e2e", "alone": "alone"}


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """A run of one marker does not load files that never name it: all of them take seconds, in each of its processes."""
    marker = MARKERS_ON_THEIR_OWN.get(config.option.markexpr)
    if marker and collection_path.name.startswith("test_") and f"mark.{marker}" not in collection_path.read_text():
        return True
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that no process has one left when the others are done.

    On PostgreSQL only what uses the database runs: the rest has run on SQLite and would say the same again.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
    if connection.vendor != "postgresql":
        return
    same = [item for item in items if not uses_the_database(item)]
    if same:
        config.hook.pytest_deselected(items=same)
        items[:] = [item for item in items if uses_the_database(item)]


def pytest_collection_finish() -> None:
    """What is loaded now stays until the end: the garbage collector need not look at it, nor every child it forks."""
    settle_memory()


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix: None) -> Iterator[None]:
    """The test database is a copy of a prepared one."""
    migrate = management.call_command

    def copy_instead(name: str, *args: object, **options: object) -> object:
        if name != "migrate":
            return migrate(name, *args, **options)
        if connection.vendor == "postgresql":
            prepared.fill_postgres(os.environ["DATABASE_URL"], str(connection.settings_dict["NAME"]))
        else:
            connection.ensure_connection()
            prepared.fill(connection.connection)
        return None

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(management, "call_command", copy_instead)
        yield


@pytest.fixture(autouse=True)
def _plain_settings(settings: object) -> Iterator[None]:
    """Cheap password hashing, no look at static files, an empty cache; nothing of one test reaches the next."""
    settings.WHITENOISE_USE_FINDERS = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    settings.STORAGES = {
        **settings.STORAGES,
        "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
    }
    settings.SECURE_SSL_REDIRECT = False
    cache.clear()
    marks.forget()
    yield
    cache.clear()
    marks.forget()


@pytest.fixture(autouse=True)
def sent_tasks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Celery hints are collected, not sent: rows are the truth, and tests run them when they say so."""
    sent: list[tuple[str, dict]] = []
    monkeypatch.setattr("core.tasks._send", lambda name, kwargs: sent.append((name, kwargs)))
    return sent


@pytest.fixture(autouse=True)
def published(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict]]:
    """Live updates that were sent after commit."""
    messages: list[tuple[str, dict]] = []
    monkeypatch.setattr("core.live._send", lambda group, message: messages.append((group, message)))
    return messages


@pytest.fixture(autouse=True)
def templates_never_query(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any SQL while a template renders is a failure: context holds evaluated data."""

    def deny(execute: object, sql: str, params: object, many: bool, context: object) -> None:
        raise AssertionError(f"query during template rendering: {sql[:160]}")

    original = Template.render

    def render(self: Template, context: object = None, request: object = None) -> str:
        if self.origin and "admin" in str(self.origin.name):
            return original(self, context, request)
        from contextlib import ExitStack

        with ExitStack() as stack:
            for connection in connections.all(initialized_only=True):
                stack.enter_context(connection.execute_wrapper(deny))
            return original(self, context, request)

    monkeypatch.setattr(Template, "render", render)


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests change rows behind the services' back, so nothing that one request made serves the next."""
    monkeypatch.setattr("core.fragments.KEEP_SECONDS", -1.0)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A real browser for the whole run: Playwright's loop can be started once in a process."""
    program = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    if not program.exists():
        pytest.skip(f"no browser at {program}")
    if not (ROOT / "static" / "vendor" / "htmx.min.js").exists():
        pytest.skip("run `npm ci` and `python -m core.frontend` first")
    playwright = pytest.importorskip("playwright.sync_api").sync_playwright().start()
    try:
        browser = playwright.chromium.launch(executable_path=str(program), args=["--no-sandbox"])
        yield browser
        browser.close()
    finally:
        playwright.stop()


@pytest.fixture
def alice(db: None) -> Persona:
    """Owner of Larkspur."""
    return make_person("alice", make_organization("Larkspur"), "owner")


@pytest.fixture
def bob(alice: Persona) -> Persona:
    """Viewer of Larkspur."""
    return make_person("bob", alice.organization, "viewer")


@pytest.fixture
def olga(alice: Persona) -> Persona:
    """Operator of Larkspur: may wake and sleep, may not configure."""
    return make_person("olga", alice.organization, "operator")


@pytest.fixture
def mallory(db: None) -> Persona:
    """Owner of another organization."""
    return make_person("mallory", make_organization("Harbour"), "owner")


@pytest.fixture
def client_of() -> Callable[[Persona], Client]:
    """A signed-in browser for a persona: `client_of(alice)`."""

    def make(persona: Persona) -> Client:
        client = Client()
        client.force_login(persona.user)
        return client

    return make


@pytest.fixture
def api_of() -> Callable[[Persona], APIClient]:
    """An API client with the persona's bearer token."""

    def make(persona: Persona) -> APIClient:
        client = APIClient()
        client.credentials(
            HTTP_AUTHORIZATION=f"Bearer {tokens.encode_access(persona.user.pk, persona.organization.pk, 'owner')}"
        )
        return client

    return make


HTMX = {"HX-Request": "true", "HX-Request-Type": "partial"}


@pytest.fixture
def htmx() -> dict[str, str]:
    """Headers of an htmx fragment request: `client.get(url, headers=htmx)`."""
    return dict(HTMX)
