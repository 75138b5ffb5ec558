"""Policies: versions, who follows what, and what is refused."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from audit.models import AuditEntry
from clusters import extensions
from clusters import services as clusters
from clusters.models import Cluster
from core.actor import Actor
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from policies import selectors, services
from policies.enums import Mode
from policies.models import Policy, PolicyAssignment, PolicyVersion
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]


def cluster(person: Persona, name: str = "prod") -> Cluster:
    return clusters.create_cluster(actor=person.actor, name=name).cluster


def changed(row: Policy, card: str, **fields: Any) -> dict[str, Any]:
    document = row.parsed().to_json()
    return {**document, card: {**document[card], **fields}}


def test_each_save_is_a_version_and_nothing_new_is_none(alice: Persona) -> None:
    row = services.create_policy(actor=alice.actor, name="Careful")
    eager = changed(row, "consolidation", enabled=True, level="aggressive")
    row = services.save_policy(actor=alice.actor, policy_id=row.id, document=eager, expected=1, note="Try it")
    same = services.save_policy(actor=alice.actor, policy_id=row.id, document=eager, expected=2)
    assert same.number == 2
    versions = selectors.list_versions(actor=alice.actor, policy_id=row.id)
    assert [(one.number, one.author, one.note) for one in versions] == [
        (2, alice.actor.label, "Try it"),
        (1, alice.actor.label, ""),
    ]
    entry = AuditEntry.objects.for_org(alice.organization).get(verb="policy.changed")
    assert entry.changes == {
        "consolidation.enabled": [False, True],
        "consolidation.level": ["balanced", "aggressive"],
        "version": [1, 2],
    }


def test_who_edited_an_older_version_is_told_and_nothing_is_lost(alice: Persona) -> None:
    row = services.create_policy(actor=alice.actor, name="Careful")
    services.save_policy(actor=alice.actor, policy_id=row.id, document=changed(row, "placement", spot="prefer"))
    with pytest.raises(Conflict, match="saved version 2 meanwhile"):
        services.save_policy(
            actor=alice.actor, policy_id=row.id, document=changed(row, "placement", spot="force"), expected=1
        )
    row.refresh_from_db()
    assert (row.number, row.document["placement"]["spot"]) == (2, "prefer")


def test_restoring_is_a_version_of_its_own(alice: Persona) -> None:
    row = services.create_policy(actor=alice.actor, name="Careful")
    services.save_policy(actor=alice.actor, policy_id=row.id, document=changed(row, "placement", spot="force"))
    back = services.restore_version(actor=alice.actor, policy_id=row.id, number=1)
    assert (back.number, back.document["placement"]["spot"]) == (3, "none")
    newest = PolicyVersion.objects.for_org(alice.organization).get(policy=row, number=3)
    assert (newest.restored_from, newest.note) == (1, "Restored version 1")
    with pytest.raises(Conflict, match="same as the present"):
        services.restore_version(actor=alice.actor, policy_id=row.id, number=1)


def test_a_cluster_follows_one_policy_and_begins_with_recommend(alice: Persona) -> None:
    prod = cluster(alice)
    first = services.create_policy(actor=alice.actor, name="First")
    second = services.create_policy(actor=alice.actor, name="Second")
    (link,) = services.apply_policy(actor=alice.actor, policy_id=first.id, cluster_ids=[prod.id])
    assert link.mode == "recommend"
    services.set_mode(actor=alice.actor, cluster_id=prod.id, mode="enforce")
    services.apply_policy(actor=alice.actor, policy_id=first.id, cluster_ids=[prod.id])
    assert PolicyAssignment.objects.for_org(alice.organization).get().mode == "enforce"
    services.apply_policy(actor=alice.actor, policy_id=second.id, cluster_ids=[prod.id])
    link = PolicyAssignment.objects.for_org(alice.organization).get()
    assert (link.policy_id, link.mode) == (second.id, "recommend")
    log = AuditEntry.objects.for_org(alice.organization).filter(verb__startswith="policy.").order_by("seq")
    assert [(one.verb, one.changes) for one in log if one.target_label == "prod"] == [
        ("policy.applied", {"mode": [None, "recommend"], "policy": [None, "First"]}),
        ("policy.mode_changed", {"mode": ["recommend", "enforce"]}),
        ("policy.applied", {"mode": ["enforce", "recommend"], "policy": ["First", "Second"]}),
    ]


def test_clusters_are_applied_all_or_none(alice: Persona, mallory: Persona) -> None:
    row = services.create_policy(actor=alice.actor, name="Careful")
    mine, theirs = cluster(alice), cluster(mallory, "theirs")
    with pytest.raises(NotFound):
        services.apply_policy(actor=alice.actor, policy_id=row.id, cluster_ids=[mine.id, theirs.id])
    with pytest.raises(InvalidInput):
        services.apply_policy(actor=alice.actor, policy_id=row.id, cluster_ids=[mine.id], mode="destroy")
    assert not PolicyAssignment.objects.all_orgs().exists()


def test_a_policy_or_template_in_use_is_not_deleted(alice: Persona) -> None:
    template = services.save_template(actor=alice.actor, values={"name": "General", "families": ["m5"]})
    prod = cluster(alice)
    row = services.create_policy(
        actor=alice.actor, name="Careful", document={"autoscaling": {"template": str(template.id)}}
    )
    services.apply_policy(actor=alice.actor, policy_id=row.id, cluster_ids=[prod.id])
    with pytest.raises(Conflict, match="in use: policy Careful"):
        services.delete_template(actor=alice.actor, template_id=template.id)
    with pytest.raises(Conflict, match="prod follows it"):
        services.delete_policy(actor=alice.actor, policy_id=row.id)
    assert services.take_off(actor=alice.actor, cluster_ids=[prod.id]) == 1
    services.delete_policy(actor=alice.actor, policy_id=row.id)
    services.delete_template(actor=alice.actor, template_id=template.id)


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"autoscaling": {"template": str(uuid4())}}, "autoscaling.template"),
        ({"hibernation": {"schedule": str(uuid4())}}, "hibernation.schedule"),
        ({"rightsizing": {"headroom_percent": 99}}, "rightsizing.headroom_percent"),
        ("not a document", "document"),
    ],
)
def test_what_a_document_names_must_be_there(document: Any, path: str, alice: Persona) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.create_policy(actor=alice.actor, name="Wrong", document=document)
    assert list(refused.value.errors) == [path]
    assert not Policy.objects.for_org(alice.organization).exists()


def test_a_template_of_another_organization_is_not_there(alice: Persona, mallory: Persona) -> None:
    theirs = services.save_template(actor=mallory.actor, values={"name": "Theirs", "families": ["m5"]})
    with pytest.raises(InvalidInput):
        services.create_policy(actor=alice.actor, name="X", document={"autoscaling": {"template": str(theirs.id)}})
    with pytest.raises(NotFound):
        services.apply_template(actor=alice.actor, cluster_id=cluster(alice).id, template_id=theirs.id)


def test_names_are_one_whatever_their_capitals_and_only_inside_an_organization(
    alice: Persona, mallory: Persona
) -> None:
    services.create_policy(actor=alice.actor, name="Careful")
    services.create_policy(actor=mallory.actor, name="Careful")
    for name in ("careful", "", "x" * 121, "a\x00b"):
        with pytest.raises(InvalidInput):
            services.create_policy(actor=alice.actor, name=name)


def test_which_template_binds_a_cluster(alice: Persona) -> None:
    actor, prod = alice.actor, cluster(alice)
    general = services.save_template(actor=actor, values={"name": "General", "families": ["m5"]})
    named = services.save_template(actor=actor, values={"name": "Named", "families": ["c5"]})
    own = services.save_template(actor=actor, values={"name": "Own", "families": ["r5"]})

    def bound() -> str | None:
        rules = extensions.template_rules(prod)
        return rules.name if rules else None

    assert bound() is None
    row = services.create_policy(actor=actor, name="Careful")
    services.apply_policy(actor=actor, policy_id=row.id, cluster_ids=[prod.id])
    assert bound() == "General"
    services.save_policy(actor=actor, policy_id=row.id, document={"autoscaling": {"template": str(named.id)}})
    assert bound() == "Named"
    services.apply_template(actor=actor, cluster_id=prod.id, template_id=own.id)
    assert bound() == "Own"
    found = selectors.applied_to(actor=actor, cluster_id=prod.id)
    assert found is not None
    assert (found.mode, found.number, found.template and found.template.name) == (Mode.RECOMMEND, 2, "Own")
    services.apply_template(actor=actor, cluster_id=prod.id, template_id=None)
    assert bound() == "Named"
    with pytest.raises(Conflict, match="policy Careful"):
        services.delete_template(actor=actor, template_id=named.id)
    assert general.is_default


def test_all_organizations_are_read_each_with_its_own_template(alice: Persona, mallory: Persona) -> None:
    for person in (alice, mallory):
        services.save_template(
            actor=person.actor, values={"name": f"Of {person.organization.name}", "families": ["m5"]}
        )
        row = services.create_policy(actor=person.actor, name="Careful")
        services.apply_policy(actor=person.actor, policy_id=row.id, cluster_ids=[cluster(person).id], mode="enforce")
    found = selectors.applied(actor=Actor.system("enforcer"), modes=[Mode.ENFORCE])
    assert {(one.organization_id, one.template.name if one.template else None) for one in found} == {
        (person.organization.id, f"Of {person.organization.name}") for person in (alice, mallory)
    }


def test_a_viewer_changes_nothing(alice: Persona, bob: Persona) -> None:
    row = services.create_policy(actor=alice.actor, name="Careful")
    prod = cluster(alice)
    template = services.save_template(actor=alice.actor, values={"name": "General", "families": ["m5"]})
    actor = bob.actor
    for attempt in (
        lambda: services.create_policy(actor=actor, name="X"),
        lambda: services.save_policy(actor=actor, policy_id=row.id, document={}),
        lambda: services.restore_version(actor=actor, policy_id=row.id, number=1),
        lambda: services.delete_policy(actor=actor, policy_id=row.id),
        lambda: services.apply_policy(actor=actor, policy_id=row.id, cluster_ids=[prod.id]),
        lambda: services.take_off(actor=actor, cluster_ids=[prod.id]),
        lambda: services.apply_template(actor=actor, cluster_id=prod.id, template_id=template.id),
        lambda: services.import_templates(actor=actor, text="x"),
        lambda: services.set_default(actor=actor, template_id=template.id),
    ):
        with pytest.raises(Forbidden):
            attempt()
