"""Tenant tables refuse SQL until a scope was named: `.for_org()`, `.visible_to(actor)` or `.all_orgs()`.

The guard catches forgetting. The access matrix in the tests is the proof that the scopes are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

from django.db import models
from django.db.models import sql

from core.actor import Actor

_unscoped_reason: ContextVar[str] = ContextVar("tenancy_unscoped", default="")


class UnscopedQuery(RuntimeError):
    """A tenant-owned table was queried without saying for whom."""


@contextmanager
def unscoped(reason: str) -> Iterator[None]:
    """Lift the guard for framework internals that build their own querysets; `reason` is for the reader."""
    token = _unscoped_reason.set(reason)
    try:
        yield
    finally:
        _unscoped_reason.reset(token)


class _GuardedQuery(sql.Query):
    scoped = False

    def get_compiler(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.scoped or _unscoped_reason.get()):
            raise UnscopedQuery(self.model._meta.label if self.model else "a query without a model")
        return super().get_compiler(*args, **kwargs)


class OrgQuerySet(models.QuerySet[Any]):
    """The query vocabulary of every tenant table."""

    def __init__(self, model: Any = None, query: Any = None, using: Any = None, hints: Any = None) -> None:
        super().__init__(model, query or _GuardedQuery(model), using, hints)
        if hints and "instance" in hints:
            self._mark()

    def _mark(self) -> Self:
        if isinstance(self.query, _GuardedQuery):
            self.query.scoped = True
        return self

    def _add_hints(self, **hints: Any) -> None:
        # A reverse relation or prefetch starts from a row that was already authorised.
        super()._add_hints(**hints)  # type: ignore[misc]
        if "instance" in hints:
            self._mark()

    def _need_scope(self) -> None:
        if not (getattr(self.query, "scoped", False) or _unscoped_reason.get()):
            raise UnscopedQuery(self.model._meta.label)

    def for_org(self, organization: Any) -> Self:
        """Rows of one organization (instance or id)."""
        return self.filter(organization=organization)._mark()

    def visible_to(self, actor: Actor) -> Self:
        """Rows that the actor may see: those of the organization it acts in; system components without one see all."""
        if actor.org_id is None:
            return self.all_orgs() if actor.can("*") else self.none()._mark()
        return self.filter(organization_id=actor.org_id)._mark()

    def all_orgs(self) -> Self:
        """Every organization's rows: for sweeps, reapers and migrations only."""
        return self._chain()._mark()  # type: ignore[attr-defined]

    def update(self, **kwargs: Any) -> int:
        self._need_scope()
        return super().update(**kwargs)

    update.alters_data = True  # type: ignore[attr-defined]

    def _update(self, *args: Any, **kwargs: Any) -> Any:
        self._need_scope()
        return super()._update(*args, **kwargs)  # type: ignore[misc]

    def _raw_delete(self, using: Any) -> Any:
        self._need_scope()
        return super()._raw_delete(using)

    def delete(self) -> tuple[int, dict[str, int]]:
        self._need_scope()
        return super().delete()

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]

    def raw(self, *args: Any, **kwargs: Any) -> Any:
        raise UnscopedQuery("raw() is banned on tenant tables")


class OrgOwned(models.Model):
    """Abstract base of every tenant table: an organization, and a manager that must be told for whom."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.CASCADE, related_name="+")

    objects = models.Manager.from_queryset(OrgQuerySet)()
    plain = models.Manager()  # noqa: DJ012  a manager too, taken for a field

    class Meta:
        abstract = True
        base_manager_name = "plain"

    def validate_unique(self, *args: Any, **kwargs: Any) -> None:
        with unscoped("uniqueness check"):
            super().validate_unique(*args, **kwargs)

    def validate_constraints(self, *args: Any, **kwargs: Any) -> None:
        with unscoped("constraint check"):
            super().validate_constraints(*args, **kwargs)
