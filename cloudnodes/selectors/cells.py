"""How one node looks: in a cell of the grid, and on its own page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from cloudnodes.enums import ACCOUNT_CODES, SLOW, UNMEASURED_SECONDS, ErrorOn, Scales
from cloudnodes.models import CloudNode
from cloudnodes.selectors.preview import name_of
from core.sleepable import SleepState
from operations.models import Operation


@dataclass(frozen=True, slots=True)
class Ring:
    """A countdown: seconds left of how many; `measured` is False when the total is only the usual guess."""

    left: int
    total: int
    measured: bool


@dataclass(frozen=True, slots=True)
class NodeCell:
    """One node in the grid. `look` is its class, `action` what its button offers: retry-wake, retry-sleep, deallocate,
    look, or nothing. `on` is what the switch shows, `can_switch` whether there is one.
    """

    id: UUID
    name: str
    place: str
    url: str
    state: str
    look: str
    price: Decimal | None
    on: bool
    can_switch: bool
    since: datetime | None
    action: str = ""
    error: str = ""
    error_code: str = ""
    next_step: str = ""
    step: str = ""
    ring: Ring | None = None
    operation_id: UUID | None = None
    can_cancel: bool = False
    account_id: UUID | None = None
    credentials: bool = False
    sleeps_at: datetime | None = None

    @property
    def brief(self) -> str:
        """The cause in two or three words, where there are some."""
        return _BRIEF.get(self.error_code, self.error)

    @property
    def word(self) -> str:
        return _WORDS[self.state][0]

    @property
    def icon(self) -> str:
        return _WORDS[self.state][1]


_BRIEF = {
    "capacity_unavailable": "No capacity",
    "quota_exceeded": "A limit is reached",
    "credentials_refused": "Credentials refused",
    "permission_missing": "A right is missing",
    "start_timeout": "Took too long",
    "stop_timeout": "Took too long",
    "not_ready": "No answer",
    "start_reverted": "Fell back",
    "unreachable": "Not reachable",
    "timed_out": "No answer in time",
    "throttled": "Too many requests",
    "bad_answer": "Unreadable answer",
    "gone": "Deleted",
}
# The eight words, and two that say more than "Unmanaged" and "Trouble" would.
_WORDS = {
    "awake": ("Awake", "sun"),
    "asleep": ("Asleep", "moon"),
    "waking": ("Waking", "sunrise"),
    "falling": ("Falling asleep", "sunset"),
    "contested": ("Contested", "swords"),
    "trouble": ("Trouble", "alert-triangle"),
    "lost": ("Lost", "plug-connected-x"),
    "unmanaged": ("Unmanaged", "shield"),
    "auto": ("Always on", "infinity"),
    "still_billing": ("Still billing", "coin"),
}


_LOOKS = {
    SleepState.AWAKE: "awake",
    SleepState.ASLEEP: "asleep",
    SleepState.WAKING: "waking",
    SleepState.FALLING: "falling",
    SleepState.CONTESTED: "stuck",
    SleepState.TROUBLE: "trouble",
    SleepState.LOST: "trouble",
    SleepState.UNMANAGED: "auto",
}


def cell_of(node: CloudNode, operation: Operation | None) -> NodeCell:
    state = SleepState(node.observed_state)
    stuck = node.still_billing and not node.error_on and operation is None
    return NodeCell(
        id=node.id,
        name=name_of(node),
        place=" · ".join(part for part in (node.instance_name, node.region, node.instance_type) if part),
        url=node.get_absolute_url(),
        state="auto" if node.scaling == Scales.TO_ZERO else "still_billing" if stuck else str(state.value),
        look="stuck" if stuck else _LOOKS[state],
        price=node.hourly_cost,
        on=node.is_on,
        can_switch=node.can_switch
        and operation is None
        and state in (SleepState.AWAKE, SleepState.ASLEEP, SleepState.CONTESTED),
        since=node.state_since,
        action=_action(node, state, stuck=stuck) if operation is None else "",
        error=node.error or (operation.error if operation else ""),
        error_code=node.error_code,
        next_step=node.next_step,
        step=_step(operation) if operation else "",
        ring=ring_of(operation) if operation else None,
        operation_id=operation.id if operation else None,
        can_cancel=operation.can_cancel if operation else False,
        account_id=node.account_id,
        credentials=node.error_code in ACCOUNT_CODES,
        sleeps_at=_sleeps_at(node) if operation is None and state is SleepState.AWAKE else None,
    )


def _sleeps_at(node: CloudNode) -> datetime | None:
    """When it falls asleep for being idle; the activity must have been read with the node."""
    known = getattr(node, "activity", None)
    return known.stops_at if known is not None and known.idle_since is not None else None


def _action(node: CloudNode, state: SleepState, *, stuck: bool) -> str:
    if stuck:
        return "deallocate"
    if node.error_on and node.can_switch:
        return "retry-wake" if node.error_on == ErrorOn.START else "retry-sleep"
    return "look" if state is SleepState.LOST else ""


def _step(operation: Operation) -> str:
    if operation.cancel_requested_at:
        return "cancelling"
    provider, slow, _ = operation.step.partition(SLOW)
    if slow:
        return f"{provider}{SLOW} nothing to do, Curfew waits"
    if operation.error:
        return f"trying again: {operation.error}"
    if not operation.steps_total:
        return "queued"
    return f"step {min(operation.steps_done + 1, operation.steps_total)} of {operation.steps_total}"


def ring_of(operation: Operation) -> Ring:
    """The countdown of an operation under way, from its learned median; sixty seconds when nothing is known."""
    total = max(1, round(operation.expected_seconds or UNMEASURED_SECONDS))
    left = max(0, round(total - operation.elapsed.total_seconds()))
    return Ring(left, total, operation.expected_seconds is not None)
