"""What of a plan may begin now, and whether it still may a moment later.

Three gates in time: a node must have been eligible for the stabilization window; the disruption budgets must allow it; and
after `look_again_after` the cluster is looked at once more, and the action simulated afresh, before anything happens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from clusters.analysis.facts import ClusterFacts
from clusters.analysis.packing import NodeOffer, offers_for
from policies.engine.actions import Action, Plan
from policies.engine.budgets import Allowance, allowance
from policies.engine.consolidation import look_again
from policies.engine.memory import Memory
from policies.engine.refusals import Reason, Refusal
from policies.engine.settings import Consolidation
from policies.enums import Reason as Why


@dataclass(frozen=True, slots=True)
class Due:
    """What may begin, why the rest waits, and what to remember for the next look."""

    actions: tuple[Action, ...]
    refusals: Mapping[str, Refusal]
    memory: Memory


def select_due(
    plan: Plan,
    facts: ClusterFacts,
    settings: Consolidation,
    now: datetime,
    memory: Memory,
    *,
    leaving: int = 0,
    not_ready: int = 0,
    hold: str = "",
) -> Due:
    """The actions that may begin now, best first. `leaving` nodes are being taken away already."""
    remembered = memory.seen(plan.eligible, now)
    refusals = dict(plan.refusals)
    chosen: list[Action] = []
    begun = 0
    for action in plan.actions:
        allowed = _allowance(action, facts, settings, now, leaving + begun, not_ready)
        why = _why_wait(action, settings, now, remembered, allowed, hold)
        if why is None:
            chosen.append(action)
            begun += len(action.nodes)
            continue
        for name in action.nodes:
            refusals[name] = Refusal(name, *why)
    return Due(tuple(chosen), refusals, remembered)


def confirm(
    action: Action,
    proposed_at: datetime,
    facts: ClusterFacts,
    settings: Consolidation,
    now: datetime,
    memory: Memory,
    *,
    offers: Sequence[NodeOffer] | None = None,
    leaving: int = 0,
    not_ready: int = 0,
    hold: str = "",
    exempt: Mapping[str, str] | None = None,
) -> Refusal | None:
    """Whether the action may still be done, with the cluster as it is now; None when it may.

    The `memory` is that of the latest look. A node that got a pod since, or lost its eligibility for a moment, is refused.
    """
    subject = ", ".join(action.nodes)
    if now < proposed_at + settings.look_again_after:
        return Refusal(subject, Reason.TOO_EARLY, f"from {proposed_at + settings.look_again_after:%H:%M:%S}")
    allowed = _allowance(action, facts, settings, now, leaving, not_ready)
    why = _why_wait(action, settings, now, memory, allowed, hold)
    if why is not None:
        return Refusal(subject, *why)
    bought = offers_for(facts.nodes) if offers is None else offers
    return look_again(action, facts, settings, now, offers=bought, memory=memory, exempt=exempt)


def _allowance(
    action: Action, facts: ClusterFacts, settings: Consolidation, now: datetime, leaving: int, not_ready: int
) -> Allowance:
    why = Why.EMPTY if action.empty else Why.UNDERUTILIZED
    return allowance(
        settings.budgets, now, settings.zone, total=len(facts.nodes), leaving=leaving, not_ready=not_ready, reason=why
    )


def _why_wait(
    action: Action,
    settings: Consolidation,
    now: datetime,
    memory: Memory,
    allowed: Allowance,
    hold: str,
) -> tuple[Reason, str] | None:
    if hold:
        return (Reason.HELD, hold)
    since = [memory.eligible_since.get(name) for name in action.nodes]
    youngest = max((at for at in since if at is not None), default=now)
    waited = timedelta(0) if None in since else now - youngest
    if waited < settings.stabilization:
        return (Reason.SETTLING, f"{_minutes(waited)} of {_minutes(settings.stabilization)} minutes")
    if allowed.unreadable:
        return (Reason.BUDGET_UNREADABLE, allowed.unreadable)
    if len(action.nodes) > allowed.nodes:
        return (Reason.BUDGET, f"{allowed.because or 'all nodes'}; {allowed.nodes} left, {len(action.nodes)} needed")
    return None


def _minutes(time: timedelta) -> str:
    return (
        f"{time / timedelta(minutes=1):g}"
        if time % timedelta(minutes=1) == timedelta(0)
        else f"{time / timedelta(minutes=1):.1f}"
    )
