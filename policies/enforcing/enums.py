"""Fixed words of the enforcers."""

from __future__ import annotations

from enum import StrEnum

RESOURCE = "policy_action"
LAUNCH, REMOVE, RELEASE, APPLY = "policy.launch_node", "policy.remove_nodes", "policy.release_nodes", "policy.apply"
MANAGER = "curfew-policies"
"""Our field manager: what a policy wrote can be told from what sleep wrote."""

HOLD = "curfew.dev/removing"
"""The annotation that a node carries while an action takes it away: the action's id."""

MARK = "curfew.dev/action"
"""The tag of a machine that an action bought."""


class Engine(StrEnum):
    """Who makes the nodes of a cluster: nobody that Curfew could ask, Karpenter in the cluster, or Curfew itself."""

    NONE = ""
    KARPENTER = "karpenter"
    DIRECT = "direct"


class Kind(StrEnum):
    """What an action does."""

    LAUNCH = "launch"
    REMOVE = "remove"


class Outcome(StrEnum):
    """What became of it. Given up: something forbade it on the way, and all is as it was."""

    RUNNING = "running"
    DONE = "done"
    GIVEN_UP = "given_up"
    FAILED = "failed"
