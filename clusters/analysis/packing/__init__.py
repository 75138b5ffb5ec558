"""A perfect re-packing of a cluster's pods, by simulation, and what it would save.

`plan_packing` answers "what would these pods cost on the cheapest set of nodes that may hold them?"; `verify` checks a
plan against the facts with code of its own. The rules:

- Every running pod gets a place that its requests, node selector and affinity, tolerations, pod affinity and
  anti-affinity, hard topology spread, volume zones, host ports and the node's pod limit allow. Each new node also
  carries the daemonsets (and static pods) that would run there. Limits and present usage play no part: the scheduler
  does not look at them either.
- A pod that must not be disturbed keeps its node, and that node stays: do-not-disrupt (pod or node), a disruption
  budget without room (or two budgets on one pod: evictions are refused then), a local volume, no controller to create
  it again, or a present place that already breaks its own rules.
- Pods with a zone-wide rule (spread, affinity or anti-affinity over a key other than the host name), and pods that such
  a rule of others speaks of, keep their zone. What holds today therefore still holds afterwards. No zone is opened that
  would be empty in the eyes of a spread rule.
- A pod that runs on on-demand capacity is never planned onto spot: that saving is spot readiness', and is not counted
  twice. Reserved nodes stay, because they are paid for anyway; they may be filled up.
- A node without a price stays as it is and is named; so are pods that wait for a node.
"""

from __future__ import annotations

from clusters.analysis.packing.model import (
    NodeOffer,
    PackingPlan,
    PlannedNode,
    StuckPod,
    StuckReason,
)
from clusters.analysis.packing.offers import MachineType, Market, offers_for
from clusters.analysis.packing.planner import plan_packing
from clusters.analysis.packing.verifier import verify

__all__ = [
    "MachineType",
    "Market",
    "NodeOffer",
    "PackingPlan",
    "PlannedNode",
    "StuckPod",
    "StuckReason",
    "offers_for",
    "plan_packing",
    "verify",
]
