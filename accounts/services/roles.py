"""Preparing an AWS role: the external ID, the template's address and the link that launches it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from uuid import UUID, uuid4

from django.db import transaction

from accounts import role_links
from accounts.actors import own_organization
from accounts.enums import AccountStatus, Method, Provider
from accounts.models import CloudAccount
from accounts.providers.aws import partition_of
from accounts.providers.aws_template import DEFAULT_ROLE_NAME, launch_url
from accounts.services.signup import PLACEHOLDER_NAME
from audit import services as audit
from core.actor import Actor
from core.errors import InvalidInput, NotFound
from core.live import publish
from core.providers import InvalidRequest


@dataclass(frozen=True, slots=True)
class RoleSetup:
    """What the customer needs to let Curfew in. `account` is the pending row that remembers the external ID."""

    account: CloudAccount
    external_id: str
    role_name: str
    role_arn: str
    template_url: str
    launch_url: str
    platform_account: str


def prepare_role(*, actor: Actor, aws_account_id: str, region: str, account_id: UUID | None = None) -> RoleSetup:
    """Make (or find again) the external ID for connecting an AWS account by role.

    The account number is only a hint until AWS has confirmed it, so nobody can reserve another's number. Without
    `account_id` the organization's pending row is used, so asking again gives the same external ID. Raises InvalidInput
    per field, NotFound, and Unavailable when this server has no AWS account that a role could trust.
    """
    actor.require("accounts.manage", "connect cloud accounts")
    number, partition = _checked(aws_account_id, region)
    platform = role_links.platform_account()
    with transaction.atomic():
        row = _row(actor, account_id)
        row.external_id = row.external_id or str(uuid4())
        fields = ["external_id"]
        if row.status == AccountStatus.PENDING:
            row.region = region
            row.settings = {**row.settings, "aws_account_id": number, "role_name": DEFAULT_ROLE_NAME}
            fields += ["region", "settings"]
        row.save(update_fields=fields)
        audit.record(actor=actor, verb="cloud_account.role_prepared", target=row, changes={"region": [None, region]})
        publish(row.organization_id, "accounts", [row.id])
    return setup_of(row, number=number, region=region, partition=partition, platform=platform)


def setup_of(row: CloudAccount, *, number: str, region: str, partition: str, platform: str) -> RoleSetup:
    """The links of a prepared row; writes nothing."""
    url = role_links.template_url(row.external_id)
    return RoleSetup(
        account=row,
        external_id=row.external_id,
        role_name=DEFAULT_ROLE_NAME,
        role_arn=role_arn(partition, number),
        template_url=url,
        launch_url=launch_url(
            template_url=url, region=region, external_id=row.external_id, platform_account_id=platform
        ),
        platform_account=platform,
    )


def role_arn(partition: str, number: str) -> str:
    """The ARN that our stack gives its role in an account."""
    return f"arn:{partition}:iam::{number}:role/{DEFAULT_ROLE_NAME}"


def _checked(aws_account_id: str, region: str) -> tuple[str, str]:
    errors: dict[str, list[str]] = {}
    number = re.sub(r"[\s-]", "", aws_account_id)
    if not re.fullmatch(r"[0-9]{12}", number):
        errors["aws_account_id"] = ["An AWS account number has exactly 12 digits."]
    partition = ""
    try:
        partition = partition_of(region.strip())
    except InvalidRequest as unknown:
        errors["region"] = [f"{unknown.message} {unknown.next_step}"]
    if errors:
        raise InvalidInput(errors=errors)
    return number, partition


def _row(actor: Actor, account_id: UUID | None) -> CloudAccount:
    rows = CloudAccount.objects.visible_to(actor).select_for_update()
    if account_id:
        found: CloudAccount | None = rows.filter(id=account_id, provider=Provider.AWS).first()
        if found is None:
            raise NotFound("There is no such cloud account.")
        return found
    waiting: CloudAccount | None = (
        rows.filter(provider=Provider.AWS, status=AccountStatus.PENDING, number="", method=Method.NONE)
        .order_by("created_at")
        .first()
    )
    if waiting:
        return waiting
    row = CloudAccount(organization_id=own_organization(actor), provider=Provider.AWS, name=PLACEHOLDER_NAME)
    row.save(force_insert=True)
    return row
