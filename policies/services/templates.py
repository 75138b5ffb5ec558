"""Writing node templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import selectors as accounts
from audit import services as audit
from clusters import services as clusters
from core import clock
from core.actor import Actor
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.live import publish
from policies import conflicts, exchange, selectors
from policies.blueprint import Blueprint
from policies.catalogue import catalogue
from policies.enums import PERMISSION_MANAGE, Architecture, DiskType, Purchasing, Strategy
from policies.models import ClusterTemplate, NodeTemplate, PolicyAssignment
from policies.selectors.templates import uses_of

TOPIC = "node_templates"
FIELDS = (
    "name", "description", "architectures", "families", "excluded_sizes", "purchasing", "strategy", "on_demand_base",
    "on_demand_percent", "disk_type", "disk_gib", "account_id", "region", "security_groups", "subnets", "zones",
    "labels", "taints", "node_role", "image", "limit_cpu", "limit_memory_gib", "weight",
)  # fmt: skip
MOST_ITEMS = 200
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,63}")
_WORDS: dict[str, tuple[str, str]] = {
    "families": (r"[a-z0-9-]{1,20}", "a family such as m5"),
    "excluded_sizes": (r"[a-z0-9-]{1,20}", "a size such as large"),
    "security_groups": (r"sg-[0-9a-z]{1,40}", "the id of a security group such as sg-0123"),
    "subnets": (r"subnet-[0-9a-z]{1,40}", "the id of a subnet such as subnet-0123"),
    "zones": (r"[a-z0-9-]{1,60}", "a zone such as us-east-1a"),
}
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_IMAGE = re.compile(r"(al2|al2023|bottlerocket)@\S{1,20}")
EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
Errors = dict[str, list[str]]


def save_template(
    *,
    actor: Actor,
    values: Mapping[str, Any],
    template_id: UUID | None = None,
    make_default: bool | None = None,
    verb: str = "",
) -> NodeTemplate:
    """Create a template, or change what `values` names of one. The first template is the default.

    Raises Forbidden, NotFound, InvalidInput with `errors` by field: also when nothing could be launched by it.
    """
    actor.require(PERMISSION_MANAGE, "change node templates")
    org_id = actor.org_id
    if org_id is None:
        raise Forbidden("A node template belongs to an organization.")
    old = selectors.get_template(actor=actor, template_id=template_id) if template_id else None
    facts = _checked(actor, {**(_facts(old) if old else {}), **values})
    try:
        with transaction.atomic():
            if selectors.name_taken(actor=actor, name=facts["name"], but=template_id):
                raise InvalidInput(errors={"name": [f"There is a template called {facts['name']} already."]})
            now = clock.now()
            before = _facts(old) if old else {}
            row = old or NodeTemplate(organization_id=org_id, created_at=now, created_by=actor.label)
            for field, value in facts.items():
                setattr(row, field, value)
            row.updated_at, row.updated_by = now, actor.label
            row.save()
            changes = {f: [_plain(before.get(f)), _plain(facts[f])] for f in FIELDS if before.get(f) != facts[f]}
            audit.record(
                actor=actor,
                verb=verb or ("node_template.changed" if old else "node_template.created"),
                target=row,
                changes=changes,
            )
            if make_default or not NodeTemplate.objects.for_org(org_id).filter(is_default=True).exists():
                _make_default(actor, row)
            _judge_again(row)
            publish(org_id, TOPIC, [row.id])
    except IntegrityError:
        if selectors.name_taken(actor=actor, name=facts["name"], but=template_id):
            raise InvalidInput(errors={"name": [f"There is a template called {facts['name']} already."]}) from None
        raise Conflict("Somebody changed the default template at the same moment. Try again.") from None
    return row


def set_default(*, actor: Actor, template_id: UUID) -> NodeTemplate:
    """Make a template the organization's default; doing it again changes nothing."""
    actor.require(PERMISSION_MANAGE, "choose the default template")
    row = selectors.get_template(actor=actor, template_id=template_id)
    if row.is_default:
        return row
    with transaction.atomic():
        _make_default(actor, row)
        publish(row.organization_id, TOPIC, [row.id])
    return row


def _make_default(actor: Actor, row: NodeTemplate) -> None:
    """Move the star, within the caller's transaction. Two at once: both rows are locked in one order."""
    rows = NodeTemplate.objects.for_org(row.organization_id)
    held = list(rows.select_for_update().order_by("id"))
    before = next((one for one in held if one.is_default), None)
    if before is not None and before.id == row.id:
        return
    rows.filter(is_default=True).update(is_default=False)
    rows.filter(id=row.id).update(is_default=True)
    row.is_default = True
    audit.record(
        actor=actor,
        verb="node_template.made_default",
        target=row,
        changes={"default": [before.name if before else None, row.name]},
    )
    for one in (before, row):
        if one is not None:
            _judge_again(one)


def clone_template(*, actor: Actor, template_id: UUID) -> NodeTemplate:
    """A copy under the next free name ("General copy", "General copy 2"), never the default."""
    actor.require(PERMISSION_MANAGE, "clone node templates")
    row = selectors.get_template(actor=actor, template_id=template_id)
    taken = {name.lower() for name in NodeTemplate.objects.visible_to(actor).values_list("name", flat=True)}
    for number in range(1, 1000):
        ending = " copy" if number == 1 else f" copy {number}"
        name = f"{row.name[: 63 - len(ending)]}{ending}"
        if name.lower() not in taken:
            return save_template(actor=actor, values={**_facts(row), "name": name}, make_default=False)
    raise Conflict("There are too many copies of it.")


def delete_template(*, actor: Actor, template_id: UUID) -> None:
    """Delete a template that nothing uses. Raises Conflict that names what does."""
    actor.require(PERMISSION_MANAGE, "delete node templates")
    row = selectors.get_template(actor=actor, template_id=template_id)
    with transaction.atomic():
        uses = uses_of(actor=actor, template=row)
        if uses.any:
            raise Conflict(f"{row.name} is in use: {uses.words}. Choose another template there first.")
        audit.record(actor=actor, verb="node_template.deleted", target=row, changes={"name": [row.name, None]})
        row.delete()
        publish(row.organization_id, TOPIC, [])


def import_templates(*, actor: Actor, text: str) -> list[tuple[NodeTemplate, tuple[str, ...]]]:
    """A template of each NodePool in the text, with what was not taken over. All of them or none.

    Raises InvalidInput with what is wrong with the text or with one of them.
    """
    actor.require(PERMISSION_MANAGE, "import node templates")
    try:
        found = exchange.from_karpenter(text, catalogue())
    except exchange.InvalidManifest as wrong:
        raise InvalidInput(errors={"manifest": [str(wrong)]}) from None
    done = []
    with transaction.atomic():
        for one in found:
            try:
                values = values_of(one.blueprint)
                row = save_template(actor=actor, values=values, make_default=False, verb="node_template.imported")
            except InvalidInput as wrong:
                words = [f"{one.blueprint.name}: {text}" for texts in wrong.errors.values() for text in texts]
                raise InvalidInput(errors={"manifest": words}) from None
            done.append((row, one.notes))
    return done


def apply_template(*, actor: Actor, cluster_id: UUID, template_id: UUID | None) -> None:
    """Bind a cluster to a template, or (None) to whatever its policy names. Its drift is judged anew."""
    actor.require(PERMISSION_MANAGE, "apply node templates")
    from clusters.models import Cluster

    with transaction.atomic():
        cluster = Cluster.objects.visible_to(actor).select_for_update(of=("self",)).filter(id=cluster_id).first()
        if cluster is None:
            raise NotFound("There is no such cluster.")
        row = selectors.get_template(actor=actor, template_id=template_id) if template_id else None
        links = ClusterTemplate.objects.for_org(cluster.organization_id)
        old = links.filter(cluster=cluster).select_related("template").first()
        if (old.template_id if old else None) == (row.id if row else None):
            return
        if row is None:
            links.filter(cluster=cluster).delete()
        else:
            links.update_or_create(
                cluster=cluster,
                defaults={
                    "organization_id": cluster.organization_id,
                    "template": row,
                    "since": clock.now(),
                    "applied_by": actor.label,
                },
            )
        audit.record(
            actor=actor,
            verb="node_template.applied",
            target=cluster,
            changes={"node_template": [old.template.name if old else None, row.name if row else None]},
        )
        clusters.judge_again(organization_id=cluster.organization_id, ids=[cluster.id])
        publish(cluster.organization_id, "clusters", [cluster.id])
        publish(cluster.organization_id, TOPIC, [])


def values_of(blueprint: Blueprint) -> dict[str, Any]:
    """A blueprint as `save_template` takes it."""
    return {
        "name": blueprint.name,
        "architectures": sorted(map(str, blueprint.architectures)),
        "families": sorted(blueprint.families),
        "excluded_sizes": sorted(blueprint.excluded_sizes),
        "purchasing": str(blueprint.purchasing),
        "strategy": str(blueprint.strategy),
        "on_demand_base": blueprint.on_demand_base,
        "on_demand_percent": blueprint.on_demand_percent,
        "disk_type": str(blueprint.disk_type),
        "disk_gib": blueprint.disk_gib,
        "security_groups": list(blueprint.security_groups),
        "subnets": list(blueprint.subnets),
        "zones": list(blueprint.zones),
        "labels": dict(blueprint.labels),
        "taints": [{"key": t.key, "value": t.value, "effect": t.effect} for t in blueprint.taints],
        "node_role": blueprint.node_role,
        "image": blueprint.image,
        "limit_cpu": blueprint.limit_cpu,
        "limit_memory_gib": blueprint.limit_memory_gib,
        "weight": blueprint.weight,
    }


def draft(values: Mapping[str, Any]) -> Blueprint:
    """A blueprint of values that are still being written: what is wrong in them is left out, nothing is stored."""
    errors: Errors = {}
    facts = _read(values, errors)
    kept = {field: value for field, value in facts.items() if field not in errors}
    fields = {f.name for f in NodeTemplate._meta.concrete_fields} & set(kept)
    return NodeTemplate(**{field: kept[field] for field in fields}).blueprint()


def _facts(row: NodeTemplate) -> dict[str, Any]:
    return {field: getattr(row, field) for field in FIELDS}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, UUID) else value


def _judge_again(row: NodeTemplate) -> None:
    """Clusters that this template binds are looked at anew; those of its policies too."""
    own = ClusterTemplate.objects.for_org(row.organization_id).filter(template=row).values_list("cluster_id", flat=True)
    ids = set(own)
    for link in PolicyAssignment.objects.for_org(row.organization_id).select_related("policy"):
        named = link.policy.parsed().autoscaling.template
        if named == str(row.id) or (not named and row.is_default):
            ids.add(link.cluster_id)
    if ids:
        clusters.judge_again(organization_id=row.organization_id, ids=ids)


def _checked(actor: Actor, values: Mapping[str, Any]) -> dict[str, Any]:
    """Every field as it is stored; InvalidInput names all that are wrong."""
    errors: Errors = {}
    facts = _read(values, errors)
    if facts["account_id"] and "account_id" not in errors:
        try:
            accounts.get_account(actor=actor, account_id=facts["account_id"])
        except NotFound:
            errors["account_id"] = ["There is no such cloud account."]
    if not errors:
        judged = conflicts.judge(draft(facts), catalogue(), {})
        for one in judged.conflicts:
            if one.weight is conflicts.Weight.BLOCKING:
                errors.setdefault(one.field, []).append(one.text)
    if errors:
        raise InvalidInput(errors=errors)
    return facts


def _read(values: Mapping[str, Any], errors: Errors) -> dict[str, Any]:
    unknown = sorted(set(map(str, values)) - set(FIELDS))
    for field in unknown:
        errors[field[:60]] = ["There is no such field."]
    name = str(values.get("name") or "").strip()
    if not _NAME.fullmatch(name):
        errors["name"] = ["Give it a name." if not name else "At most 63 characters."]
    facts: dict[str, Any] = {"name": name, "description": _text(values, "description", 500, errors)}
    facts["architectures"] = _choices(values, "architectures", Architecture, errors)
    for field, (pattern, example) in _WORDS.items():
        facts[field] = _words(values, field, pattern, example, errors)
    for field, kind, default in (
        ("purchasing", Purchasing, Purchasing.SPOT),
        ("strategy", Strategy, Strategy.CAPACITY_OPTIMIZED),
        ("disk_type", DiskType, DiskType.GP3),
    ):
        facts[field] = _choice(values, field, kind, default, errors)
    hybrid = facts["purchasing"] == Purchasing.HYBRID
    facts["on_demand_base"] = _number(values, "on_demand_base", 0, 0, 10_000, errors) if hybrid else 0
    facts["on_demand_percent"] = _number(values, "on_demand_percent", 0, 0, 100, errors) if hybrid else 0
    facts["disk_gib"] = _number(values, "disk_gib", 100, 1, 65_536, errors)
    facts["account_id"] = _id(values, "account_id", errors)
    facts["region"] = _text(values, "region", 60, errors)
    facts["labels"] = _labels(values.get("labels") or {}, errors)
    facts["taints"] = _taints(values.get("taints") or [], errors)
    facts["node_role"] = _text(values, "node_role", 200, errors)
    facts["image"] = _text(values, "image", 30, errors) or "al2023@latest"
    if "image" not in errors and not _IMAGE.fullmatch(facts["image"]):
        errors["image"] = ["A Linux image of EKS, such as al2023@latest or bottlerocket@v1.20.0."]
    for field in ("limit_cpu", "limit_memory_gib"):
        facts[field] = None
        if values.get(field) not in (None, ""):
            facts[field] = _number(values, field, 1, 1, 10_000_000, errors)
    facts["weight"] = _number(values, "weight", 10, 1, 100, errors)
    return facts


def _text(values: Mapping[str, Any], field: str, most: int, errors: Errors) -> str:
    value = values.get(field)
    text = "" if value is None else value.strip() if isinstance(value, str) else None
    if text is None or len(text) > most or "\x00" in text:
        errors[field] = [f"Text of at most {most} characters."]
        return ""
    return text


def _list(values: Mapping[str, Any], field: str, errors: Errors) -> list[Any]:
    value = values.get(field)
    if value is None:
        return []
    if not isinstance(value, list | tuple) or len(value) > MOST_ITEMS:
        errors[field] = [f"A list of at most {MOST_ITEMS}."]
        return []
    return list(value)


def _words(values: Mapping[str, Any], field: str, pattern: str, example: str, errors: Errors) -> list[str]:
    found = []
    for word in _list(values, field, errors):
        if isinstance(word, str) and re.fullmatch(pattern, word):
            found.append(word)
        else:
            errors[field] = [f"{str(word)[:60]!r} is not {example}."]
    return list(dict.fromkeys(found))


def _choices(values: Mapping[str, Any], field: str, kind: Any, errors: Errors) -> list[str]:
    words = [str(word) for word in kind]
    found = [str(word) for word in _list(values, field, errors)]
    if any(word not in words for word in found):
        errors[field] = [f"Each one of {', '.join(words)}."]
    return [word for word in words if word in found]


def _choice(values: Mapping[str, Any], field: str, kind: Any, default: Any, errors: Errors) -> str:
    try:
        return str(kind(values.get(field) or default))
    except ValueError:
        errors[field] = [f"One of {', '.join(map(str, kind))}."]
        return str(default)


def _number(values: Mapping[str, Any], field: str, default: int, least: int, most: int, errors: Errors) -> int:
    value = values.get(field)
    if value in (None, ""):
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        errors[field] = [f"A whole number from {least} to {most}."]
        return default
    return value


def _id(values: Mapping[str, Any], field: str, errors: Errors) -> UUID | None:
    value = values.get(field)
    if value in (None, ""):
        return None
    try:
        return value if isinstance(value, UUID) else UUID(str(value))
    except ValueError:
        errors[field] = ["Not an id."]
        return None


def _labels(value: Any, errors: Errors) -> dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > 50:
        errors["labels"] = ["At most 50 pairs of key and value."]
        return {}
    wrong = [
        str(k)[:60]
        for k, v in value.items()
        if not (isinstance(k, str) and _LABEL_KEY.fullmatch(k) and isinstance(v, str) and _LABEL_VALUE.fullmatch(v))
    ]
    if wrong:
        errors["labels"] = [f"Not a label of Kubernetes: {', '.join(wrong[:5])}."]
        return {}
    return dict(value)


def _taints(value: Any, errors: Errors) -> list[dict[str, str]]:
    rows: Iterable[Any] = value if isinstance(value, list | tuple) and len(value) <= 50 else [None]
    found = []
    for row in rows:
        taint = {key: str(row.get(key) or "") for key in ("key", "value", "effect")} if isinstance(row, Mapping) else {}
        taint["effect"] = taint.get("effect") or "NoSchedule"
        if not _LABEL_KEY.fullmatch(taint.get("key", "")) or not _LABEL_VALUE.fullmatch(taint["value"]):
            errors["taints"] = ["A taint is a key, perhaps a value, and an effect, such as gpu=true:NoSchedule."]
        elif taint["effect"] not in EFFECTS:
            errors["taints"] = [f"The effect of a taint is one of {', '.join(EFFECTS)}."]
        else:
            found.append(taint)
    return found
