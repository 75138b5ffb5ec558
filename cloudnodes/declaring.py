"""Nodes that carry no tag, declared by a person: by form or CSV. A declaration says what a tag would have said.

Nothing is asked of a cloud here: the account's next look, within seconds, finds the node or says that it is not there.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import chain
from uuid import UUID

from django.db import transaction

from accounts.models import CloudAccount
from audit import services as audit
from cloudnodes.enums import PROVIDERS, tier_of
from cloudnodes.models import AccountPoll, CloudNode, NodeType
from cloudnodes.providers.base import node_type_slug
from cloudnodes.services.observe import label_of
from cloudnodes.services.polls import request_refresh
from core import clock
from core.actor import Actor
from core.errors import InvalidInput, NotFound
from core.live import publish

COLUMNS = ("account", "provider_id", "node_type", "gpu_tier", "region", "hourly_cost")
NEEDED = ("account", "provider_id", "node_type")
MOST_ROWS = 1000
MOST_ERRORS = 50
_LONGEST = {"provider_id": 400, "node_type": 120, "gpu_tier": 40, "region": 60}


@dataclass(frozen=True, slots=True)
class Declaration:
    """One node: the account's name or id, the provider's id of the machine, and what runs on it."""

    account: str
    provider_id: str
    node_type: str
    gpu_tier: str = ""
    region: str = ""
    hourly_cost: Decimal | None = None


def read_csv(lines: Iterable[str]) -> list[Declaration]:
    """The declarations of a file with the header COLUMNS (the last three may be missing), between commas, semicolons or
    tabs, whichever the header has.

    Raises InvalidInput with one message per wrong line (`errors["line 7"]`), at most fifty; nothing is half read.
    """
    found = iter(lines)
    header = next(found, "")
    reader = csv.DictReader(chain([header], found), delimiter=max(",;\t", key=header.count), strict=True)
    errors: dict[str, list[str]] = {}
    rows: list[Declaration] = []
    seen: dict[tuple[str, str], int] = {}
    try:
        missing = [name for name in NEEDED if name not in (reader.fieldnames or ())]
        if missing:
            raise InvalidInput("The file has no such columns.", errors={"header": [f"missing: {', '.join(missing)}"]})
        for values in reader:
            row, wrong = checked(values)
            if row is not None:
                first = seen.setdefault((row.account.lower(), row.provider_id), reader.line_num)
                wrong = [f"the same node as line {first}"] if first != reader.line_num else []
            if row is None or wrong:
                errors[f"line {reader.line_num}"] = wrong
            else:
                rows.append(row)
            if len(errors) >= MOST_ERRORS or len(rows) > MOST_ROWS:
                break
    except csv.Error as broken:
        errors[f"line {reader.line_num + 1}"] = [f"not readable as CSV: {broken}"]
    if len(rows) > MOST_ROWS:
        errors["file"] = [f"At most {MOST_ROWS} nodes at once."]
    if errors:
        raise InvalidInput("Nothing was declared: some lines are wrong.", errors=errors)
    if not rows:
        raise InvalidInput("The file declares nothing.", errors={"file": ["It has a header but no line."]})
    return rows


def checked(values: Mapping[str, object]) -> tuple[Declaration | None, list[str]]:
    """A declaration from text, or what is wrong with it."""
    text = {name: str(values.get(name) or "").strip() for name in COLUMNS}
    wrong = [f"{name} is empty" for name in NEEDED if not text[name]]
    wrong += [f"{name} is longer than {most} characters" for name, most in _LONGEST.items() if len(text[name]) > most]
    if text["node_type"] and not node_type_slug(text["node_type"]):
        wrong.append(f"node_type {text['node_type']!r} has no letter or digit")
    cost: Decimal | None = None
    if text["hourly_cost"]:
        try:
            cost = Decimal(text["hourly_cost"])
        except InvalidOperation:
            cost = Decimal(-1)
        if not cost.is_finite() or not 0 <= cost <= 10_000:
            wrong.append(f"hourly_cost {text['hourly_cost']!r} is not an amount from 0 to 10000")
    if wrong:
        return None, wrong
    return Declaration(
        text["account"], text["provider_id"], text["node_type"], text["gpu_tier"].lower(), text["region"], cost
    ), []


def declare(*, actor: Actor, rows: Sequence[Declaration]) -> int:
    """Declare nodes, all or none, in one transaction; repeating it changes nothing. Returns how many are new.

    Raises Forbidden without nodes.manage, InvalidInput per line for an account that is not there or a node that another
    account's scan already found by its tag.
    """
    actor.require("nodes.manage", "declare cloud nodes")
    accounts = {}
    for account in CloudAccount.objects.visible_to(actor).filter(provider__in=list(PROVIDERS)).exclude(method=""):
        accounts[account.name.lower()] = accounts[str(account.id)] = account
    errors = {
        f"line {n}": [f"account {row.account!r} is not a connected account with cloud nodes"]
        for n, row in enumerate(rows, start=2)
        if row.account.lower() not in accounts
    }
    if errors:
        raise InvalidInput(
            "Nothing was declared: some lines are wrong.", errors=dict(list(errors.items())[:MOST_ERRORS])
        )
    created = 0
    with transaction.atomic():
        for row in rows:
            created += _declare(actor, accounts[row.account.lower()], row)
    request_refresh(actor=actor)
    return created


def _declare(actor: Actor, account: CloudAccount, row: Declaration) -> bool:
    now = clock.now()
    kind, _ = NodeType.objects.for_org(account.organization_id).get_or_create(
        slug=node_type_slug(row.node_type)[:120],
        defaults={"organization_id": account.organization_id, "name": row.node_type[:120], "created_at": now},
    )
    told = {
        "node_type": row.node_type,
        "gpu_tier": row.gpu_tier,
        "hourly_cost": None if row.hourly_cost is None else str(row.hourly_cost),
    }
    AccountPoll.objects.for_org(account.organization_id).get_or_create(
        account=account, defaults={"organization_id": account.organization_id}
    )
    rows = CloudNode.objects.for_org(account.organization_id).select_for_update(of=("self",))
    node = rows.filter(account=account, provider_id=row.provider_id).first()
    tier = row.gpu_tier or (node.gpu_tier if node else tier_of(""))
    if node is not None:
        if node.declared != told or node.gone_at is not None:
            node.declared, node.node_type, node.gpu_tier = told, kind, tier
            node.gone_at = node.missing_since = None
            node.save(update_fields=["declared", "node_type", "gpu_tier", "gone_at", "missing_since"])
            _record(actor, node, told)
        return False
    node = CloudNode(
        organization_id=account.organization_id,
        account=account,
        node_type=kind,
        gpu_tier=tier,
        provider=account.provider,
        provider_id=row.provider_id,
        instance_name=row.provider_id[:200],
        region=row.region or (account.region if account.provider == "aws" else ""),
        declared=told,
        created_at=now,
    )
    node.save(force_insert=True)
    _record(actor, node, told)
    return True


def _record(actor: Actor, node: CloudNode, told: Mapping[str, str | None]) -> None:
    audit.record(
        actor=actor,
        verb="node.declared",
        target=node,
        target_label=label_of(node),
        organization_id=node.organization_id,
        changes={name: [None, value] for name, value in told.items() if value},
    )
    publish(node.organization_id, "nodes", [node.id])


def withdraw(*, actor: Actor, node_id: UUID) -> bool:
    """Take a declaration back: what carries no tag of its own is left alone from the next look on. NotFound, Forbidden."""
    actor.require("nodes.manage", "withdraw declarations")
    with transaction.atomic():
        rows = CloudNode.objects.visible_to(actor).select_for_update(of=("self",)).select_related("node_type")
        node = rows.filter(id=node_id).first()
        if node is None:
            raise NotFound("There is no such cloud node.")
        if not node.declared:
            return False
        before = dict(node.declared)
        node.declared = {}
        node.save(update_fields=["declared"])
        audit.record(
            actor=actor,
            verb="node.declaration_withdrawn",
            target=node,
            target_label=label_of(node),
            changes={"node_type": [before.get("node_type"), None]},
        )
        publish(node.organization_id, "nodes", [node.id])
    return True


def example() -> str:
    """A file to start from."""
    lines = [",".join(COLUMNS), "Studio AWS,i-0123456789abcdef0,FLUX Dev,a10g,us-east-1,1.006"]
    return "\r\n".join(lines) + "\r\n"
