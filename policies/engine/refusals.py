"""Why something is not done: a reason, what it is about, and words for people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """Why a node stays, an action waits, or nothing can be bought."""

    HELD = "held"
    CORDONED = "cordoned"
    DO_NOT_DISRUPT = "do_not_disrupt"
    UNPRICED = "unpriced"
    PAID_ANYWAY = "paid_anyway"
    POD_STAYS = "pod_stays"
    NOT_EMPTY = "not_empty"
    BUSY = "busy"
    NO_ROOM = "no_room"
    NOT_CHEAPER = "not_cheaper"
    DOES_NOT_PAY = "does_not_pay"
    FEW_CHEAPER_TYPES = "few_cheaper_types"
    CHAIN = "chain"
    RECEIVES = "receives"
    SETTLING = "settling"
    BUDGET = "budget"
    BUDGET_UNREADABLE = "budget_unreadable"
    TOO_EARLY = "too_early"
    CHANGED = "changed"
    OUTSIDE_TEMPLATE = "outside_template"
    NOTHING_FITS = "nothing_fits"
    NO_CAPACITY = "no_capacity"
    TAKES_SPOT_ONLY = "takes_spot_only"

    @property
    def words(self) -> str:
        return _WORDS[self]


_WORDS = {
    Reason.HELD: "automation is on hold",
    Reason.CORDONED: "somebody has cordoned it",
    Reason.DO_NOT_DISRUPT: "it is marked do-not-disrupt",
    Reason.UNPRICED: "its price is not known",
    Reason.PAID_ANYWAY: "it is reserved, and paid for whether it runs or not",
    Reason.POD_STAYS: "a pod on it must not be moved",
    Reason.NOT_EMPTY: "pods run on it, and only empty nodes are deleted",
    Reason.BUSY: "it is used too much for this setting",
    Reason.NO_ROOM: "its pods do not fit on the other nodes",
    Reason.NOT_CHEAPER: "no cheaper node would hold its pods",
    Reason.DOES_NOT_PAY: "moving its pods would cost more than it saves",
    Reason.FEW_CHEAPER_TYPES: "too few cheaper spot types would do, so the next one could be gone soon",
    Reason.CHAIN: "its pods have been moved to cheaper nodes often enough lately",
    Reason.RECEIVES: "it takes pods of another node in the same plan",
    Reason.SETTLING: "it has not been underused for long enough",
    Reason.BUDGET: "the disruption budget allows no more nodes now",
    Reason.BUDGET_UNREADABLE: "a disruption budget cannot be read, so nothing may be disrupted",
    Reason.TOO_EARLY: "it is looked at once more before anything happens",
    Reason.CHANGED: "the cluster has changed since this was planned",
    Reason.OUTSIDE_TEMPLATE: "the node template does not allow it",
    Reason.NOTHING_FITS: "no allowed node would hold it",
    Reason.NO_CAPACITY: "the cloud had no capacity a moment ago",
    Reason.TAKES_SPOT_ONLY: "the pod runs on spot only, and there is none",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """What is not done, and why. `subject` is a node, a pod or a machine type."""

    subject: str
    reason: Reason
    detail: str = ""

    @property
    def words(self) -> str:
        return f"{self.reason.words} ({self.detail})" if self.detail else self.reason.words
