"""Clusters come and go: connected with a token shown once, changed, disconnected; sealed credentials; their account."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction

from accounts import selectors as accounts
from accounts import services as access
from accounts.actors import own_organization
from accounts.models import AgentToken, CloudAccount
from audit import services as audit
from clusters.enums import RESOURCE, Distribution, Environment, Method, environment_of
from clusters.models import Cluster
from clusters.providers import kubeconfig
from clusters.services.money import note_phase
from clusters.services.steering import MANAGE, locked
from clusters.sleeping.models import SleepSnapshot
from core import clock, encryption
from core.actor import Actor
from core.errors import Conflict, InvalidInput, InvalidState, NotFound
from core.live import publish
from core.providers import InvalidRequest
from costs.enums import Phase
from operations import services as operations

PREFLIGHT = "cluster.preflight"
ENROLMENT_HOURS = 24
MOST_TAGS = 50
CHANGEABLE = ("name", "environment", "region", "team", "owner", "tags", "monthly_budget")
LARGEST_BUDGET = Decimal(10) ** 9
_REGION = re.compile(r"[A-Za-z0-9 _.-]{0,60}")


@dataclass(frozen=True, slots=True)
class Connected:
    """A new cluster. `token` and `enrolment` are shown once, and empty where no agent reports."""

    cluster: Cluster
    token: str = ""
    enrolment: str = ""


def create_cluster(
    *,
    actor: Actor,
    name: str,
    environment: str = "",
    region: str = "",
    team: str = "",
    owner: str = "",
    tags: Mapping[str, str] | None = None,
    account_id: UUID | None = None,
    external_id: str = "",
    distribution: str = "",
    version: str = "",
    kubeconfig_text: str = "",
    through_eks: bool = False,
) -> Connected:
    """Register a cluster. With a kubeconfig, or through the EKS API of its account, it is polled; otherwise an agent
    reports it, whose token is in the answer.

    Raises Forbidden, InvalidInput (fields; `kubeconfig` with the reason of its refusal), Conflict for a cluster that is
    connected already.
    """
    actor.require(MANAGE, "connect clusters")
    facts = clean(name=name, environment=environment, region=region, team=team, owner=owner, tags=tags or {})
    access_facts = _read_kubeconfig(kubeconfig_text) if kubeconfig_text else None
    account = accounts.get_account(actor=actor, account_id=account_id) if account_id else None
    known = distribution if distribution in Distribution.values else ""
    if through_eks and (account is None or account.provider != "aws" or not external_id):
        raise InvalidInput(errors={"way": ["Only a cluster that was found in an AWS account is read through EKS."]})
    row = Cluster(
        organization_id=own_organization(actor),
        account=account,
        external_id=external_id[:300],
        distribution=known,
        version=version[:60],
        cloud=account.provider if account else "",
        method=Method.KUBECONFIG if access_facts else Method.EKS if through_eks else Method.AGENT,
        created_at=clock.now(),
        state_since=clock.now(),
        **facts,
    )
    if access_facts:
        row.credentials = encryption.seal(access_facts.values(), bound_to=row.seal_name)
        row.server = access_facts.server[:300]
    try:
        with transaction.atomic():
            return _create(actor, row)
    except IntegrityError:
        raise Conflict(f"{row.name} is connected already.", code="already_connected") from None


def _create(actor: Actor, row: Cluster) -> Connected:
    made = Connected(row)
    row.save(force_insert=True)
    if row.method == Method.AGENT:
        made = _admit(actor, row)
    else:
        operations.request_operation(
            actor=actor,
            kind=PREFLIGHT,
            resource_kind=RESOURCE,
            resource_id=row.id,
            resource_label=row.name,
            organization_id=row.organization_id,
            deadline_seconds=300,
        )
    audit.record(actor=actor, verb="cluster.connected", target=row, changes={"method": [None, row.method]})
    publish(row.organization_id, "clusters", [row.id])
    return made


def _read_kubeconfig(text: str) -> kubeconfig.KubeAccess:
    try:
        return kubeconfig.read(text).access
    except InvalidRequest as refused:
        words = f"{refused.message} {refused.next_step}".strip()
        raise InvalidInput(errors={"kubeconfig": [words]}, code=refused.code) from None


def clean(**given: Any) -> dict[str, Any]:
    """The descriptive fields, checked; only those that are given. Raises InvalidInput."""
    errors: dict[str, list[str]] = {}
    facts: dict[str, Any] = {}
    _names(given, facts, errors)
    if "environment" in given:
        facts["environment"] = str(given["environment"])
        if facts["environment"] not in Environment.values:
            errors["environment"] = ["Choose prod, staging or dev, or nothing."]
    if "region" in given:
        facts["region"] = str(given["region"]).strip()
        if not _REGION.fullmatch(facts["region"]):
            errors["region"] = ["A region has at most 60 letters, digits and hyphens."]
    if "tags" in given:
        facts["tags"] = _tags(given["tags"], errors)
        facts["tag_text"] = " ".join(f"{key}={value}" for key, value in facts["tags"].items())[:1000]
    if "monthly_budget" in given:
        facts["monthly_budget"] = _budget(given["monthly_budget"], errors)
    if errors:
        raise InvalidInput(errors=errors)
    return facts


def _names(given: Mapping[str, Any], facts: dict[str, Any], errors: dict[str, list[str]]) -> None:
    for field, most in (("name", 120), ("team", 80), ("owner", 120)):
        if field in given:
            facts[field] = str(given[field]).strip()
            if len(facts[field]) > most or (field == "name" and not facts[field]):
                errors[field] = [f"Give {'1 to' if field == 'name' else 'at most'} {most} characters."]


def _budget(given: Any, errors: dict[str, list[str]]) -> Decimal | None:
    if given in (None, ""):
        return None
    try:
        amount = Decimal(str(given))
        if not amount.is_finite() or not 0 < amount <= LARGEST_BUDGET:
            raise ValueError
        return amount.quantize(Decimal("0.01"))
    except (InvalidOperation, ValueError):
        errors["monthly_budget"] = ["Give dollars a month, more than 0, or nothing."]
        return None


def _tags(given: Any, errors: dict[str, list[str]]) -> dict[str, str]:
    pairs = given if isinstance(given, Mapping) else {}
    if (
        pairs != given
        or len(pairs) > MOST_TAGS
        or any(len(str(k)) > 128 or len(str(v)) > 256 for k, v in pairs.items())
    ):
        errors["tags"] = [f"Give at most {MOST_TAGS} tags, with keys of 128 and values of 256 characters at most."]
        return {}
    return {str(key): str(value) for key, value in pairs.items()}


def from_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Team, owner and environment as the cloud's tags have them, whatever their spelling."""
    lower = {key.lower(): value for key, value in tags.items()}
    place = next((lower[key] for key in ("environment", "env", "stage") if key in lower), "")
    return {"team": lower.get("team", ""), "owner": lower.get("owner", ""), "environment": environment_of(place)}


def update_cluster(*, actor: Actor, cluster_id: UUID, **given: Any) -> Cluster:
    """Change name, environment, region, team, owner, tags or monthly budget (dollars, None: none)."""
    actor.require(MANAGE, "change clusters")
    facts = clean(**{name: value for name, value in given.items() if name in CHANGEABLE})
    with transaction.atomic():
        row = locked(actor, cluster_id)
        changed = {name: [getattr(row, name), value] for name, value in facts.items() if getattr(row, name) != value}
        if changed:
            for name, (_, value) in changed.items():
                setattr(row, name, value)
            row.save(update_fields=list(changed))
            told = {name: pair for name, pair in changed.items() if name != "tag_text"}
            if "monthly_budget" in told:
                told["monthly_budget"] = [None if v is None else f"{v:f}" for v in told["monthly_budget"]]
            audit.record(actor=actor, verb="cluster.changed", target=row, changes=told)
            publish(row.organization_id, "clusters", [row.id])
    return row


def disconnect_cluster(*, actor: Actor, cluster_id: UUID) -> None:
    """Forget a cluster, its credentials and its history, and end its tokens. Nothing in the cluster is touched; the
    money already counted and the audit log stay."""
    actor.require(MANAGE, "disconnect clusters")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        refuse_asleep([row], "disconnect")
        if row.price_seq:
            note_phase(actor=actor, cluster=row, phase=Phase.GONE, at=clock.now(), seq=row.price_seq)
        _revoke_tokens(actor, row)
        audit.record(actor=actor, verb="cluster.disconnected", target=row)
        publish(row.organization_id, "clusters", [row.id])
        row.delete()


def refuse_asleep(clusters: Iterable[Cluster], to: str) -> None:
    """Raise InvalidState while one of these sleeps: it is woken first, or somebody takes its restore file."""
    names = {c.id: c.name for c in clusters}
    asleep = SleepSnapshot.objects.all_orgs().filter(cluster_id__in=list(names), restored_at=None, handed_over_at=None)
    for cluster_id in asleep.values_list("cluster_id", flat=True)[:1]:
        raise InvalidState(
            f"{names[cluster_id]} is asleep. Wake it first, or take its restore file on its page, then {to}.",
            code="asleep",
        )


def reinstall(*, actor: Actor, cluster_id: UUID) -> Connected:
    """A new token and address for a cluster's agent; the ones before stop working at once. Its history stays.

    Raises Forbidden, NotFound, InvalidInput for a cluster that is read without an agent.
    """
    actor.require(MANAGE, "install agents")
    with transaction.atomic():
        row = locked(actor, cluster_id)
        if row.method != Method.AGENT:
            raise InvalidInput("This cluster is read without an agent.")
        _revoke_tokens(actor, row)
        made = _admit(actor, row)
        audit.record(actor=actor, verb="cluster.agent_reissued", target=row)
        publish(row.organization_id, "clusters", [row.id])
    return made


def _revoke_tokens(actor: Actor, row: Cluster) -> None:
    tokens = AgentToken.objects.for_org(row.organization_id).filter(kind="cluster", revoked_at=None)
    mine = list(tokens.filter(resource_id=row.id).values_list("id", flat=True))
    for token_id in [*mine, *([row.enrolment_id] if row.enrolment_id else [])]:
        access.revoke_agent_token(actor=actor, token_id=token_id)


def _admit(actor: Actor, row: Cluster) -> Connected:
    """A token for the agent, and an enrolment for the manifest's address."""
    enrolment, text = access.create_enrolment_token(actor=actor, kind="cluster", name=row.name, hours=ENROLMENT_HOURS)
    _, token = access.mint_agent_token(enrolment=text, name=row.name, resource_id=row.id)
    row.enrolment_id = enrolment.id
    row.save(update_fields=["enrolment_id"])
    return Connected(row, token, text)


def manifest_url(enrolment: str) -> str:
    """The address that `kubectl apply -f` takes; it works for a day, and until the cluster is heard."""
    return f"{settings.CURFEW_BASE_URL}/install/cluster/{enrolment}.yaml"


def mint_for_manifest(*, enrolment: str) -> tuple[Cluster, str]:
    """The cluster of an enrolment token and a fresh agent token for its manifest. NotFound when it is not live."""
    parent = accounts.agent_token(enrolment)
    if parent is None or not parent.enrolment or parent.kind != "cluster":
        raise NotFound("This address is not valid any more. Make a new one on the cluster's page.")
    with transaction.atomic():
        rows = Cluster.objects.for_org(parent.organization_id).select_for_update(of=("self",))
        row = rows.filter(enrolment_id=parent.id).first()
        if row is None or (row.heard_at is not None and row.heard_at >= parent.created_at):
            raise NotFound("This cluster reports already. Make a new address on its page.")
        _, token = access.mint_agent_token(enrolment=enrolment, name=row.name, resource_id=row.id)
        audit.record(actor=accounts.actor_of_agent(parent), verb="cluster.manifest_fetched", target=row)
    return row, token


def disconnect_effects(*, actor: Actor, account: CloudAccount) -> list[str]:
    """What disconnecting a cloud account means for its clusters, in words."""
    rows = Cluster.objects.for_org(account.organization_id).filter(account=account)
    blind = rows.filter(method=Method.EKS).count()
    kept = rows.count() - blind
    effects = []
    if kept:
        effects.append(
            f"{kept} cluster{'s stay' if kept != 1 else ' stays'} in the registry: the agents report on their own."
        )
    if blind:
        effects.append(f"{blind} cluster{'s' if blind != 1 else ''} read through it can no longer be read.")
    return effects


def release_account(*, actor: Actor, account: CloudAccount) -> None:
    """A cloud account is being disconnected: clusters stay, without it. Not while one of them sleeps: it could not be
    woken any more."""
    refuse_asleep(Cluster.objects.for_org(account.organization_id).filter(account=account), "disconnect its account")
    Cluster.objects.for_org(account.organization_id).filter(account=account).update(account=None)
