"""The language of the access matrix: each app lists its routes in `tests/access/routes_<app>.py`.

A module holds `ROUTES: list[Route]` and, when its paths name objects, `build(world)` that creates them in alice's
organization and puts their ids into `world.ids`. A path such as `/operations/{operation}/` is filled from those ids.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType

from tests.personas import Persona

ROLES = ("nobody", "viewer", "operator", "owner", "stranger")


@dataclass(frozen=True)
class Route:
    """One method of one route with the status that each kind of caller must get.

    `nobody` is not signed in, `viewer`, `operator` and `owner` belong to alice's organization, `stranger` owns another
    one. For a page, `nobody` is 302 (to the log-in); for the API 401. `stranger` is 404 on every object route.
    """

    method: str
    path: str
    nobody: int
    viewer: int
    operator: int
    owner: int
    stranger: int
    body: dict = field(default_factory=dict)
    api: bool = False
    anyof: tuple[int, ...] = ()  # further statuses allowed to those who are let in, e.g. 409 when the world changed
    lasting: bool = False  # takes files away, which no rollback brings back: the next route gets another world

    @property
    def label(self) -> str:
        return f"{self.method} {self.path}"


@dataclass
class World:
    """Alice's organization with one of everything; `ids` fills the placeholders of the paths."""

    alice: Persona
    bob: Persona
    olga: Persona
    mallory: Persona
    ids: dict[str, str] = field(default_factory=dict)


def page(path: str, *, viewer: int = 200, operator: int | None = None, owner: int = 200, stranger: int = 200) -> Route:
    """A GET page: nobody is sent to the log-in."""
    return Route("GET", path, 302, viewer, viewer if operator is None else operator, owner, stranger)


def api(
    method: str,
    path: str,
    *,
    viewer: int,
    operator: int,
    owner: int,
    stranger: int,
    body: dict | None = None,
    anyof: tuple[int, ...] = (),
) -> Route:
    """An API call: nobody is 401."""
    return Route(method, path, 401, viewer, operator, owner, stranger, body or {}, True, anyof)


def modules() -> list[ModuleType]:
    import tests.access as package

    names = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name.startswith("routes_"))
    return [importlib.import_module(f"tests.access.{name}") for name in names]


def all_routes() -> list[Route]:
    return [route for module in modules() for route in module.ROUTES]


def builders() -> list[Callable[[World], None]]:
    return [module.build for module in modules() if hasattr(module, "build")]


def exempt_patterns() -> set[str]:
    """Resolver routes that a module declares as not ours to test here, each with a reason in its `EXEMPT`."""
    return {pattern for module in modules() for pattern in getattr(module, "EXEMPT", {})}
