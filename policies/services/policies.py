"""Writing policies: versions, and which cluster follows which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from audit import services as audit
from clusters import services as clusters
from clusters.models import Cluster
from core import clock
from core.actor import Actor
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.live import publish
from policies import extensions, selectors
from policies.document import Document, InvalidDocument
from policies.enums import PERMISSION_MANAGE, Mode
from policies.models import NodeTemplate, Policy, PolicyAssignment, PolicyVersion
from policies.selectors.history import changes_between

TOPIC = "policies"
MOST_AT_ONCE = 500


def create_policy(*, actor: Actor, name: str, document: Any = None, note: str = "") -> Policy:
    """A new policy with its first version; without a document everything has its default.

    Raises Forbidden, and InvalidInput with `errors` by "card.field".
    """
    actor.require(PERMISSION_MANAGE, "create policies")
    if actor.org_id is None:
        raise Forbidden("A policy belongs to an organization.")
    name = _name(actor, name)
    parsed = _parsed(actor, {} if document is None else document)
    now = clock.now()
    try:
        with transaction.atomic():
            row = Policy.objects.for_org(actor.org_id).create(
                organization_id=actor.org_id,
                name=name,
                number=1,
                document=parsed.to_json(),
                created_at=now,
                updated_at=now,
                updated_by=actor.label,
            )
            _version(actor, row, note)
            audit.record(actor=actor, verb="policy.created", target=row, changes={"name": [None, name]})
            publish(row.organization_id, TOPIC, [row.id])
    except IntegrityError:
        raise InvalidInput(errors={"name": [f"There is a policy called {name} already."]}) from None
    made: Policy = row
    return made


def save_policy(
    *,
    actor: Actor,
    policy_id: UUID,
    document: Any,
    expected: int | None = None,
    note: str = "",
    restored_from: int | None = None,
) -> Policy:
    """Save a new version; the same document again saves nothing. It holds for every cluster that follows the policy.

    `expected` is the version that was edited: Conflict when somebody has saved another meanwhile.
    """
    actor.require(PERMISSION_MANAGE, "change policies")
    parsed = _parsed(actor, document)
    with transaction.atomic():
        row = _locked(actor, policy_id)
        if expected is not None and expected != row.number:
            raise Conflict(
                f"{row.updated_by or 'Somebody'} saved version {row.number} meanwhile. Reload to see it; what you "
                "changed here is not saved.",
                number=row.number,
            )
        fresh = parsed.to_json()
        if fresh == row.document:
            return row
        before = row.parsed()
        changes = changes_between(row.document, fresh)
        row.document, row.number = fresh, row.number + 1
        row.updated_at, row.updated_by = clock.now(), actor.label
        row.save(update_fields=["document", "number", "updated_at", "updated_by"])
        _version(actor, row, note, restored_from)
        audit.record(
            actor=actor,
            verb="policy.changed" if restored_from is None else "policy.restored",
            target=row,
            changes={**changes, "version": [row.number - 1, row.number]},
        )
        followers = list(row.assignments.all().values_list("cluster_id", flat=True))
        _follow_schedule(actor, before, parsed, followers)
        if before.autoscaling.template != parsed.autoscaling.template and followers:
            clusters.judge_again(organization_id=row.organization_id, ids=followers)
        publish(row.organization_id, TOPIC, [row.id])
    return row


def restore_version(*, actor: Actor, policy_id: UUID, number: int) -> Policy:
    """Save the document of an older version as the newest. Raises NotFound, and InvalidInput when what it names is gone."""
    actor.require(PERMISSION_MANAGE, "restore policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    version = selectors.get_version(actor=actor, policy_id=policy_id, number=number)
    if version.document == row.document:
        raise Conflict(f"Version {number} is the same as the present one.")
    return save_policy(
        actor=actor,
        policy_id=policy_id,
        document=version.document,
        note=f"Restored version {number}",
        restored_from=number,
    )


def rename_policy(*, actor: Actor, policy_id: UUID, name: str) -> Policy:
    """Give a policy another name."""
    actor.require(PERMISSION_MANAGE, "rename policies")
    row = selectors.get_policy(actor=actor, policy_id=policy_id)
    name = _name(actor, name, but=policy_id)
    with transaction.atomic():
        audit.record(actor=actor, verb="policy.renamed", target=row, changes={"name": [row.name, name]})
        row.name = name
        row.save(update_fields=["name"])
        publish(row.organization_id, TOPIC, [row.id])
    return row


def delete_policy(*, actor: Actor, policy_id: UUID) -> None:
    """Delete a policy that no cluster follows; its versions go with it. Raises Conflict that names the clusters."""
    actor.require(PERMISSION_MANAGE, "delete policies")
    with transaction.atomic():
        row = _locked(actor, policy_id)
        names = list(row.assignments.all().order_by("cluster__name").values_list("cluster__name", flat=True))
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise Conflict(
                f"{', '.join(names[:3])}{more} follow{'s' if len(names) == 1 else ''} it. Take it off first."
            )
        audit.record(actor=actor, verb="policy.deleted", target=row, changes={"name": [row.name, None]})
        row.delete()
        publish(row.organization_id, TOPIC, [])


def apply_policy(
    *, actor: Actor, policy_id: UUID, cluster_ids: Sequence[UUID], mode: str | None = None
) -> list[PolicyAssignment]:
    """Let clusters follow a policy, one a cluster: one that followed another moves. `mode` is what it may do there; a
    cluster that is new to it begins with recommend. All of them or none.

    Raises NotFound when one of them is not the actor's, InvalidInput for a mode that there is none of.
    """
    actor.require(PERMISSION_MANAGE, "apply policies")
    wanted = None if mode is None else _mode(mode)
    ids = list(dict.fromkeys(cluster_ids))
    if not ids or len(ids) > MOST_AT_ONCE:
        raise InvalidInput(errors={"clusters": [f"Choose 1 to {MOST_AT_ONCE} clusters."]})
    with transaction.atomic():
        row = _locked(actor, policy_id)
        found = list(
            Cluster.objects.visible_to(actor).select_for_update(of=("self",)).filter(id__in=ids).order_by("id")
        )
        if len(found) != len(ids):
            raise NotFound("There is no such cluster.")
        done = [_assign(actor, row, cluster, wanted) for cluster in found]
        _follow_schedule(actor, Document(), row.parsed(), ids)
        clusters.judge_again(organization_id=row.organization_id, ids=ids)
        publish(row.organization_id, TOPIC, [row.id])
        publish(row.organization_id, "clusters", ids)
    return done


def _assign(actor: Actor, row: Policy, cluster: Cluster, wanted: Mode | None) -> PolicyAssignment:
    links = PolicyAssignment.objects.for_org(row.organization_id)
    link = links.select_for_update(of=("self",)).select_related("policy").filter(cluster=cluster).first()
    moved = link is None or link.policy_id != row.id
    old_name, old_mode = (link.policy.name, link.mode) if link else (None, None)
    mode = str(wanted or (old_mode if link and not moved else Mode.RECOMMEND))
    if link is not None and not moved and mode == link.mode:
        return link
    now = clock.now()
    if link is None:
        link = PolicyAssignment(organization_id=row.organization_id, cluster=cluster)
    link.policy, link.mode, link.since, link.changed_by = row, mode, now, actor.label
    link.save()
    changes = {"mode": [old_mode, mode], **({"policy": [old_name, row.name]} if moved else {})}
    verb = "policy.applied" if moved else "policy.mode_changed"
    audit.record(actor=actor, verb=verb, target=cluster, changes=changes)
    return link


def set_mode(*, actor: Actor, cluster_id: UUID, mode: str) -> PolicyAssignment:
    """What its policy may do to a cluster: off, recommend, enforce. Raises NotFound when it follows none."""
    actor.require(PERMISSION_MANAGE, "change what a policy may do")
    link = PolicyAssignment.objects.visible_to(actor).filter(cluster_id=cluster_id).first()
    if link is None:
        raise NotFound("No policy is applied to this cluster.")
    return apply_policy(actor=actor, policy_id=link.policy_id, cluster_ids=[cluster_id], mode=mode)[0]


def take_off(*, actor: Actor, cluster_ids: Sequence[UUID]) -> int:
    """Take clusters off whatever policy they follow. What it has done stays. Returns how many."""
    actor.require(PERMISSION_MANAGE, "take policies off")
    with transaction.atomic():
        rows = PolicyAssignment.objects.visible_to(actor).filter(cluster_id__in=list(cluster_ids))
        links = list(rows.select_related("policy", "cluster"))
        for link in links:
            changes = {"policy": [link.policy.name, None], "mode": [link.mode, None]}
            audit.record(actor=actor, verb="policy.taken_off", target=link.cluster, changes=changes)
            publish(link.organization_id, TOPIC, [link.policy_id])
            clusters.judge_again(organization_id=link.organization_id, ids=[link.cluster_id])
            link.delete()
    return len(links)


def put_cluster_policy(
    *, actor: Actor, cluster_id: UUID, policy_id: UUID | None = None, mode: str | None = None, document: Any = None
) -> PolicyAssignment:
    """What `PUT /api/clusters/{id}/policy` does: follow `policy_id`, or (with a document alone) change the policy that
    the cluster follows, making one of its own where it follows none. All of it or nothing."""
    actor.require(PERMISSION_MANAGE, "change policies")
    cluster = Cluster.objects.visible_to(actor).filter(id=cluster_id).first()
    if cluster is None:
        raise NotFound("There is no such cluster.")
    with transaction.atomic():
        link = PolicyAssignment.objects.visible_to(actor).filter(cluster_id=cluster_id).first()
        chosen = policy_id or (link.policy_id if link else None)
        if chosen is None:
            if document is None:
                raise InvalidInput(errors={"policy": ["Name a policy, or send a document."]})
            chosen = create_policy(actor=actor, name=_free_name(actor, cluster.name), document=document).id
        elif document is not None:
            save_policy(actor=actor, policy_id=chosen, document=document)
        return apply_policy(actor=actor, policy_id=chosen, cluster_ids=[cluster_id], mode=mode)[0]


def _free_name(actor: Actor, name: str) -> str:
    taken = {one.lower() for one in Policy.objects.visible_to(actor).values_list("name", flat=True)}
    tries = (name[:110] if number == 1 else f"{name[:110]} {number}" for number in range(1, 1000))
    return next(one for one in tries if one.lower() not in taken)


def _follow_schedule(actor: Actor, before: Document, after: Document, cluster_ids: Sequence[UUID]) -> None:
    """When the hibernation card names another schedule, those clusters follow it. Leaving it empty changes nothing."""
    schedule = after.hibernation.schedule
    source = extensions.schedules()
    if schedule and schedule != before.hibernation.schedule and cluster_ids and source is not None:
        source.follow(actor, list(cluster_ids), schedule)


def _locked(actor: Actor, policy_id: UUID) -> Policy:
    row: Policy | None = Policy.objects.visible_to(actor).select_for_update().filter(id=policy_id).first()
    if row is None:
        raise NotFound("There is no such policy.")
    return row


def _version(actor: Actor, row: Policy, note: str, restored_from: int | None = None) -> None:
    PolicyVersion.objects.for_org(row.organization_id).create(
        organization_id=row.organization_id,
        policy=row,
        number=row.number,
        document=row.document,
        author=actor.label,
        note=note[:200],
        restored_from=restored_from,
        created_at=row.updated_at,
    )


def _name(actor: Actor, name: str, but: UUID | None = None) -> str:
    name = name.strip()
    if not name or len(name) > 120 or not name.isprintable():
        raise InvalidInput(errors={"name": ["Give it a name of at most 120 characters."]})
    rows = Policy.objects.visible_to(actor).filter(name__iexact=name)
    if (rows.exclude(id=but) if but else rows).exists():
        raise InvalidInput(errors={"name": [f"There is a policy called {name} already."]})
    return name


def _mode(mode: str) -> Mode:
    try:
        return Mode(mode)
    except ValueError:
        raise InvalidInput(errors={"mode": [f"One of {', '.join(Mode)}."]}) from None


def _parsed(actor: Actor, document: Any) -> Document:
    """The document, with what it names checked to be there. Raises InvalidInput by "card.field"."""
    try:
        parsed = Document.from_json(document)
    except InvalidDocument as wrong:
        raise InvalidInput(errors=wrong.errors) from None
    errors: Mapping[str, Sequence[str]] = {}
    template = parsed.autoscaling.template
    if template and not NodeTemplate.objects.visible_to(actor).filter(id=template).exists():
        errors = {"autoscaling.template": ["There is no such node template."]}
    schedule, source = parsed.hibernation.schedule, extensions.schedules()
    if schedule and (source is None or schedule not in {one.id for one in source.choices(actor)}):
        errors = {**errors, "hibernation.schedule": ["There is no such schedule."]}
    if errors:
        raise InvalidInput(errors=errors)
    return parsed
