"""Forgetting to say for whom is an error, in every way there is to ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.db.models import Count, Exists, OuterRef, Q

from accounts.models import CloudAccount, Membership
from core.tenancy import OrgOwned, UnscopedQuery
from tests.personas import Persona, make_account


def _awaited(method: str) -> object:
    async def ask() -> object:
        return await getattr(CloudAccount.objects, method)()

    return async_to_sync(ask)()


FORGETTING: list[Callable[[], object]] = [
    lambda: list(CloudAccount.objects.all()),
    lambda: list(CloudAccount.objects.filter(name="x")),
    lambda: list(CloudAccount.objects.exclude(name="x")),
    lambda: list(CloudAccount.objects.order_by("name")[:3]),
    lambda: list(CloudAccount.objects.select_related("organization")),
    lambda: list(CloudAccount.objects.prefetch_related("organization")),
    lambda: list(CloudAccount.objects.values("id")),
    lambda: list(CloudAccount.objects.values_list("id", flat=True)),
    lambda: list(CloudAccount.objects.only("id")),
    lambda: list(CloudAccount.objects.defer("name")),
    lambda: list(CloudAccount.objects.distinct()),
    lambda: list(CloudAccount.objects.reverse()),
    lambda: list(CloudAccount.objects.annotate(n=Count("id"))),
    lambda: list(CloudAccount.objects.filter(Q(name="x") | Q(name="y"))),
    lambda: list(CloudAccount.objects.iterator()),
    lambda: CloudAccount.objects.get(name="x"),
    CloudAccount.objects.first,
    CloudAccount.objects.last,
    CloudAccount.objects.count,
    CloudAccount.objects.exists,
    lambda: CloudAccount.objects.aggregate(Count("id")),
    lambda: CloudAccount.objects.in_bulk([]) or CloudAccount.objects.in_bulk(),
    lambda: CloudAccount.objects.earliest("created_at"),
    lambda: CloudAccount.objects.latest("created_at"),
    lambda: CloudAccount.objects.contains(CloudAccount()),
    lambda: CloudAccount.objects.update(name="x"),
    lambda: CloudAccount.objects.filter(name="x").delete(),
    lambda: CloudAccount.objects.raw("select 1"),
    CloudAccount.objects.explain,
    lambda: list(CloudAccount.objects.union(CloudAccount.objects.all())),
    lambda: bool(CloudAccount.objects.filter(name="x")),
    lambda: _awaited("aexists"),
    lambda: _awaited("acount"),
    lambda: list(Membership.objects.filter(Exists(Membership.objects.filter(user=OuterRef("user"))))),
]


@pytest.mark.django_db
@pytest.mark.parametrize("forget", FORGETTING, ids=range(len(FORGETTING)))
def test_a_query_without_a_scope_is_refused(forget: Callable[[], object]) -> None:
    with pytest.raises((UnscopedQuery, ValueError)) as refused:
        forget()
    if refused.type is ValueError:  # `contains` of an unsaved row refuses before it would ask the database
        assert "unsaved" in str(refused.value) or "primary key" in str(refused.value)


def test_named_scopes_work_and_stay_apart(alice: Persona, mallory: Persona) -> None:
    mine = make_account(alice.organization, number="111111111111")
    theirs = make_account(mallory.organization, number="222222222222")
    assert list(CloudAccount.objects.for_org(alice.organization)) == [mine]
    assert list(CloudAccount.objects.visible_to(mallory.actor)) == [theirs]
    assert set(CloudAccount.objects.all_orgs()) == {mine, theirs}
    assert CloudAccount.objects.for_org(alice.organization).filter(id=theirs.id).first() is None
    assert CloudAccount.objects.visible_to(alice.actor).exclude(name="x").order_by("name").count() == 1
    assert CloudAccount.objects.for_org(alice.organization).filter(id=theirs.id).update(name="stolen") == 0
    mine.refresh_from_db()
    mine.name = "renamed"
    mine.save(update_fields=["name"])
    mine.delete()
    assert list(CloudAccount.objects.all_orgs()) == [theirs]


def test_every_table_with_an_organization_is_guarded() -> None:
    own_apps = {
        "audit",
        "accounts",
        "costs",
        "operations",
        "cloudnodes",
        "clusters",
        "hibernation",
        "policies",
        "gpu_fleet",
        "taskrunner",
        "notifications",
    }
    exempt = {"accounts.RefreshToken", "audit.AuditHead"}  # reached only through a token or inside audit.record
    unguarded = [
        model._meta.label
        for model in apps.get_models()
        if model._meta.app_label in own_apps
        and any(f.name == "organization" for f in model._meta.get_fields())
        and not issubclass(model, OrgOwned)
        and model._meta.label not in exempt
    ]
    assert unguarded == []
