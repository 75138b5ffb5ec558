"""A refusal is worth a line too: who wanted what, where, and which right was missing."""

from __future__ import annotations

from audit import services as audit
from audit.enums import Outcome
from core.actor import Actor


def record_denied(*, actor: Actor | None, permission: str, what: str, where: str = "", times: int = 1) -> None:
    """Write an `access.denied` line for an actor of an organization; a caller without one leaves no trail here."""
    if actor is None or actor.org_id is None:
        return
    facts = [
        f"Needs {permission}." if permission else "",
        f"{where}." if where else "",
        f"The {times}th time within ten minutes." if times > 1 else "",
    ]
    audit.record_alone(
        actor=actor,
        verb="access.denied",
        target_kind="permission",
        target_id=permission,
        target_label=what[:300],
        outcome=Outcome.DENIED,
        detail=" ".join(filter(None, facts)),
    )
