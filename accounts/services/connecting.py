"""Connecting a cloud account: check the shape, ask the cloud, then claim it in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction

from accounts import sandbox, vault
from accounts.actors import own_organization
from accounts.enums import AccountStatus, Method, Provider
from accounts.models import CloudAccount, User
from accounts.providers.aws import partition_of
from accounts.providers.base import Credentials, Identity
from accounts.services import shape
from accounts.services.profile import close_wizard
from accounts.services.roles import prepare_role, role_arn
from audit import services as audit
from audit.enums import Outcome
from core import clock, encryption, hooks
from core.actor import Actor, ActorKind
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from core.live import publish
from core.providers import InvalidRequest, ProviderError

SHOWN_LENGTH = 300


@dataclass(frozen=True, slots=True)
class _Plan:
    """A checked wish to connect, and the row that it is about (None: the placeholder, or a new one)."""

    asked: shape.Asked
    name: str
    target: CloudAccount | None
    external_id: str = ""
    is_sandbox: bool = False

    @property
    def provider(self) -> str:
        return self.asked.info.name

    @property
    def label(self) -> str:
        return self.name or (self.target.name if self.target and self.target.number else "") or self.asked.info.label


def connect_account(
    *,
    actor: Actor,
    provider: str,
    method: str,
    name: str = "",
    region: str = "",
    values: Mapping[str, Any],
    account_id: UUID | None = None,
) -> CloudAccount:
    """Connect a cloud account, or give a connected one (`account_id`) new credentials.

    The cloud is asked who we are before anything is stored, outside any transaction. Then, in one transaction: the
    number is claimed, the organization's pending placeholder is filled in (a new row is made only without one), the
    values are sealed and a scan is ordered.

    Raises Forbidden; InvalidInput per field; NotFound for `account_id`; a ProviderError with the cloud's reason, its
    secrets removed; Conflict (`claimed`, or `already_connected` with the `account`) when the number is taken. Every
    failure after the shape was right is audited.
    """
    actor.require("accounts.manage", "connect cloud accounts")
    target = _target(actor, provider, account_id)
    return _connect(actor, _plan(actor, provider, method, name, region, values, target))


def reconnect(
    *, actor: Actor, account_id: UUID, values: Mapping[str, Any], method: str = "", region: str = ""
) -> CloudAccount:
    """New credentials for a connected account. Raises InvalidInput when they belong to another account."""
    actor.require("accounts.manage", "connect cloud accounts")
    row = CloudAccount.objects.visible_to(actor).filter(id=account_id).first()
    if row is None:
        raise NotFound("There is no such cloud account.")
    if row.is_sandbox:
        raise Conflict("A sandbox account has no credentials to change. Disconnect it instead.", code="sandbox")
    return connect_account(
        actor=actor,
        provider=row.provider,
        method=method or row.method,
        region=region or row.region,
        values=values,
        account_id=row.id,
    )


def connect_sandbox(*, actor: Actor, method: str = "keys") -> CloudAccount:
    """Connect a free account of the sandbox cloud by keys, or by a role whose stack is launched for the person.

    Raises NotFound when this server has no sandbox, Conflict when all of its accounts are taken.
    """
    actor.require("accounts.manage", "connect cloud accounts")
    if not sandbox.is_offered():
        raise NotFound("This server runs without a sandbox.")
    if method not in ("keys", "role"):
        raise InvalidInput(errors={"method": ["The sandbox is connected by role or keys."]})
    facts = sandbox.facts()
    numbers = [a.number for a in facts.accounts]
    taken = set(
        CloudAccount.objects.all_orgs()
        .filter(provider=Provider.AWS, number__in=numbers)
        .values_list("number", flat=True)
    )
    free = [a for a in facts.accounts if a.number not in taken]
    if not free:
        raise Conflict("Every account of the sandbox is connected already.", code="sandbox_full")
    account, external_id = free[0], ""
    if method == "role":
        setup = prepare_role(actor=actor, aws_account_id=account.number, region=facts.region)
        external_id = setup.external_id
        stack = sandbox.launch_stack(external_id=external_id, number=account.number)
        values = {"aws_account_id": account.number, "role_arn": stack["role_arn"], "external_id": external_id}
    else:
        values = {"access_key_id": account.access_key_id, "secret_access_key": account.secret_access_key}
    asked = shape.check(Provider.AWS, method, facts.region, values)
    return _connect(actor, _Plan(asked, f"{account.name} (sandbox)", None, external_id, is_sandbox=True))


def _target(actor: Actor, provider: str, account_id: UUID | None) -> CloudAccount | None:
    if account_id is None:
        return None
    row = CloudAccount.objects.visible_to(actor).filter(id=account_id).first()
    if row is None:
        raise NotFound("There is no such cloud account.")
    if row.number and row.provider != provider:
        raise InvalidInput(
            errors={"provider": ["This account belongs to another provider. Connect a new one instead."]}
        )
    return row


def _plan(
    actor: Actor,
    provider: str,
    method: str,
    name: str,
    region: str,
    values: Mapping[str, Any],
    target: CloudAccount | None,
) -> _Plan:
    info = shape.info_of(provider)
    way = shape.method_of(info, method)
    if way.operator_only and not _is_operator(actor):
        raise Forbidden(
            f"{way.label} reaches into this server itself: only its operator may connect it.", permission="operator"
        )
    clean_name = name.strip()
    if len(clean_name) > 120:
        raise InvalidInput(errors={"name": ["A name has at most 120 characters."]})
    external_id = ""
    if provider == Provider.AWS and method == Method.ROLE:
        values, external_id = _with_external_id(actor, region, values, target)
    return _Plan(shape.check(provider, method, region, values), clean_name, target, external_id)


def _is_operator(actor: Actor) -> bool:
    if actor.kind == ActorKind.SYSTEM:
        return True
    return actor.kind == ActorKind.USER and User.objects.filter(pk=actor.id, is_staff=True, is_active=True).exists()


def _with_external_id(
    actor: Actor, region: str, values: Mapping[str, Any], target: CloudAccount | None
) -> tuple[dict[str, Any], str]:
    """Fill in what we made ourselves. An external ID that was not made for this organization is refused."""
    rows = list(
        CloudAccount.objects.visible_to(actor)
        .filter(provider=Provider.AWS)
        .exclude(external_id="")
        .order_by("created_at")
    )
    given = str(values.get("external_id") or "").strip()
    if not given:
        waiting = [r for r in rows if (r.id == target.id if target else r.status == AccountStatus.PENDING)]
        given = waiting[0].external_id if waiting else ""
    if not given or given not in {r.external_id for r in rows}:
        raise InvalidInput(
            errors={"external_id": ["Prepare a role first: this external ID was not made for your organization."]}
        )
    filled = {**values, "external_id": given}
    number = "".join(c for c in str(values.get("aws_account_id") or "") if c.isdigit())
    if not str(values.get("role_arn") or "").strip() and len(number) == 12:
        try:
            filled["role_arn"] = role_arn(partition_of(region.strip() or "us-east-1"), number)
        except InvalidRequest:
            filled["role_arn"] = role_arn("aws", number)  # the region's own message follows
    return filled, given


def _connect(actor: Actor, plan: _Plan) -> CloudAccount:
    credentials = vault.build(
        plan.provider, plan.asked.method.name, plan.asked.region, plan.asked.values, is_sandbox=plan.is_sandbox
    )
    try:
        identity = _identity(plan, credentials)
        return _claim(actor, plan, identity)
    except (ProviderError, Conflict, InvalidInput) as refused:
        _record_failure(actor, plan, refused)
        raise


def _identity(plan: _Plan, credentials: Credentials) -> Identity:
    """Ask the cloud who we are; no secret is left in the words of its refusal."""
    try:
        identity = vault.connect_with(credentials, is_sandbox=plan.is_sandbox).verify()
    except ProviderError as refused:
        refused.hide(credentials.secrets())
        if refused.transient:
            refused.next_step = f"Nothing was stored. {refused.next_step}"
        raise
    if not 0 < len(identity.account_number) <= 120:
        raise InvalidRequest("The provider named an account without a usable number.", code="bad_identity")
    if plan.target and plan.target.number and plan.target.number != identity.account_number:
        raise InvalidInput(
            f"These credentials belong to another {plan.asked.info.account_label} than {plan.target.name}. Connect it as a new account.",
            code="wrong_account",
        )
    return identity


def _claim(actor: Actor, plan: _Plan, identity: Identity) -> CloudAccount:
    with transaction.atomic():
        row = _row_to_fill(actor, plan, identity)
        _refuse_taken(actor, plan, identity, row)
        before = str(row.method)
        _fill(row, plan, identity)
        try:
            with transaction.atomic():
                row.save()
        except IntegrityError:
            _refuse_taken(actor, plan, identity, row)
            raise Conflict(_taken_words(plan), code="claimed") from None
        audit.record(
            actor=actor,
            verb="cloud_account.connected",
            target=row,
            changes={"method": [before, row.method], "number": [None, row.masked_number], "region": [None, row.region]},
        )
        publish(row.organization_id, "accounts", [row.id])
        hooks.cloud_account_connected.emit(actor=actor, account=row)
        if actor.kind == ActorKind.USER:
            close_wizard(user=User.objects.get(pk=actor.id))
    return row


def _row_to_fill(actor: Actor, plan: _Plan, identity: Identity) -> CloudAccount:
    """The named row, the row prepared with this external ID, the placeholder, or a new one: in this order, locked."""
    rows = CloudAccount.objects.visible_to(actor).select_for_update()
    if plan.target:
        row: CloudAccount | None = rows.filter(id=plan.target.id).first()
        if row is None:
            raise NotFound("The cloud account was disconnected meanwhile.")
        return row
    pending = rows.filter(status=AccountStatus.PENDING, number="", method=Method.NONE).order_by("created_at")
    if plan.external_id:
        row = pending.filter(external_id=plan.external_id).first()
        if row:
            return row
    row = pending.filter(external_id="").first() or (
        pending.filter(provider=plan.provider).first() if not plan.external_id else None
    )
    return row or CloudAccount(organization_id=own_organization(actor), provider=plan.provider)


def _taken_words(plan: _Plan) -> str:
    return f"This {plan.asked.info.account_label} is already connected to another organization."


def _refuse_taken(actor: Actor, plan: _Plan, identity: Identity, row: CloudAccount) -> None:
    taken = (
        CloudAccount.objects.all_orgs()
        .filter(provider=plan.provider, number=identity.account_number)
        .exclude(id=row.id)
        .first()
    )
    if taken is None:
        return
    if taken.organization_id == actor.org_id:
        raise Conflict(
            f"This {plan.asked.info.account_label} is connected already, as {taken.name}.",
            code="already_connected",
            account=str(taken.id),
        )
    raise Conflict(_taken_words(plan), code="claimed")


def _fill(row: CloudAccount, plan: _Plan, identity: Identity) -> None:
    secret = {f.name for f in plan.asked.method.fields if f.is_secret}
    shown = {
        k: v for k, v in plan.asked.values.items() if k not in secret and k != "external_id" and len(v) <= SHOWN_LENGTH
    }
    if not row.number:
        row.name = (plan.name or identity.label or plan.asked.info.label)[:120]
    elif plan.name:
        row.name = plan.name
    row.provider, row.number, row.region = plan.provider, identity.account_number, plan.asked.region
    row.method, row.principal = plan.asked.method.name, identity.principal[:300]
    row.external_id, row.settings, row.is_sandbox = plan.external_id, shown, plan.is_sandbox
    row.endpoint = sandbox.address() if plan.is_sandbox else ""
    row.credentials = encryption.seal(plan.asked.values, bound_to=row.seal_name)
    row.status_reason = row.next_step = ""
    row.connected_at = clock.now()


def _record_failure(actor: Actor, plan: _Plan, refused: ProviderError | Conflict | InvalidInput) -> None:
    audit.record_alone(
        actor=actor,
        verb="cloud_account.connect_failed",
        target=plan.target,
        target_kind="cloudaccount",
        target_label=plan.label,
        outcome=Outcome.FAILED,
        detail=f"{plan.asked.info.label}, {plan.asked.method.label}: {refused.message} ({refused.code})",
    )
