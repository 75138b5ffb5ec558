"""What the API of policies answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from operations.api.shapes import moment
from policies import services
from policies.conflicts import Verdict
from policies.impact import Impact
from policies.models import NodeTemplate, Policy, PolicyAssignment, PolicyVersion
from policies.selectors import Uses


def template_shape(row: NodeTemplate, uses: Uses | None = None) -> dict[str, Any]:
    """A node template; `used_by` where it was asked for."""
    shape = {
        "id": str(row.id),
        **services.values_of(row.blueprint()),
        "name": row.name,
        "description": row.description,
        "account_id": str(row.account_id) if row.account_id else None,
        "region": row.region,
        "is_default": row.is_default,
        "created_by": row.created_by,
        "updated_by": row.updated_by,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }
    if uses is not None:
        shape["used_by"] = {
            "policies": [{"id": str(i), "name": name} for i, name in uses.policies],
            "clusters": [{"id": str(i), "name": name} for i, name in uses.own],
        }
    return shape


def verdict_shape(verdict: Verdict, *, name_taken: bool) -> dict[str, Any]:
    """How a template is judged."""
    price = verdict.average
    return {
        "name_taken": name_taken,
        "types": [one.name for one in verdict.types],
        "conflicts": [
            {"field": one.field, "severity": str(one.weight), "subject": one.subject, "text": one.text}
            for one in verdict.conflicts
        ],
        "price": {
            "average_hourly": _money(price.hourly),
            "average_per_vcpu": _money(price.per_vcpu),
            "currency": "USD",
            "priced_types": price.priced,
            "types": price.types,
            "cheapest": price.cheapest or None,
            "source": price.source or None,
            "as_of": price.as_of.isoformat() if price.as_of else None,
        },
    }


def _money(amount: Any) -> str | None:
    return None if amount is None else f"{amount:.6f}"


def policy_shape(row: Policy) -> dict[str, Any]:
    """A policy with its present document."""
    return {
        "id": str(row.id),
        "name": row.name,
        "version": row.number,
        "document": row.document,
        "updated_by": row.updated_by,
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def version_shape(row: PolicyVersion) -> dict[str, Any]:
    """One version."""
    return {
        "version": row.number,
        "document": row.document,
        "author": row.author,
        "note": row.note,
        "restored_from": row.restored_from,
        "created_at": moment(row.created_at),
    }


def assignment_shape(row: PolicyAssignment) -> dict[str, Any]:
    """What a cluster follows."""
    return {
        "cluster_id": str(row.cluster_id),
        "policy": policy_shape(row.policy),
        "mode": row.mode,
        "since": moment(row.since),
        "changed_by": row.changed_by,
    }


def impact_shape(found: Mapping[str, Impact], looked_at: list[str]) -> dict[str, Any]:
    """The effect of each card; `monthly_savings` is potential, null when nobody can say."""
    return {
        "clusters": looked_at,
        "currency": "USD",
        "cards": {
            card: {
                "monthly_savings": None if one.monthly is None else f"{one.monthly:.2f}",
                "words": one.words,
                "basis": one.basis,
                "notes": list(one.notes),
            }
            for card, one in found.items()
        },
    }
