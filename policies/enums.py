"""Fixed words of policies. Free of models, so that the pure parts may use them."""

from __future__ import annotations

from enum import StrEnum

PERMISSION_VIEW = "policies.view"
PERMISSION_MANAGE = "policies.manage"


class Mode(StrEnum):
    """What a policy may do to a cluster it is applied to."""

    OFF = "off"
    RECOMMEND = "recommend"
    ENFORCE = "enforce"


class Architecture(StrEnum):
    """Processor architectures, as Kubernetes writes them."""

    AMD64 = "amd64"
    ARM64 = "arm64"


class Purchasing(StrEnum):
    """How nodes are bought. Hybrid: spot beside an on-demand base."""

    SPOT = "spot"
    ON_DEMAND = "on_demand"
    HYBRID = "hybrid"


class Strategy(StrEnum):
    """How one type is chosen among those that fit."""

    LOWEST_PRICE = "lowest_price"
    CAPACITY_OPTIMIZED = "capacity_optimized"


class DiskType(StrEnum):
    """Root volumes; ephemeral is the instance store of the machine."""

    GP3 = "gp3"
    GP2 = "gp2"
    IO1 = "io1"
    IO2 = "io2"
    EPHEMERAL = "ephemeral"


class Level(StrEnum):
    """How eagerly nodes are consolidated."""

    CONSERVATIVE = "conservative"
    BALANCED = "balanced"
    AGGRESSIVE = "aggressive"


class Method(StrEnum):
    """What consolidation may do: wait until a node is empty, or move its pods."""

    DELETE_EMPTY = "delete_empty"
    REPLACE_AND_MOVE = "replace_and_move"


class Rightsizing(StrEnum):
    """What becomes of a recommended size."""

    OFF = "off"
    RECOMMEND = "recommend"
    APPLY = "apply"


class Profile(StrEnum):
    """How a size is recommended: p95 of the use and a headroom, as the Vertical Pod Autoscaler does, or by the rule that
    did best on days it did not know."""

    P95 = "p95"
    VPA = "vpa"
    MEASURED = "measured"


class SpotPreference(StrEnum):
    """Where pods are sent: nowhere in particular, to spot if there is any, to spot only."""

    NONE = "none"
    PREFER = "prefer"
    FORCE = "force"


class Reason(StrEnum):
    """Why a node is disrupted; a budget may speak of some of them only."""

    EMPTY = "empty"
    UNDERUTILIZED = "underutilized"
    DRIFTED = "drifted"


THRESHOLDS = {Level.CONSERVATIVE: 20, Level.BALANCED: 50, Level.AGGRESSIVE: 80}
"""A node is a candidate when less than this share of it, in percent, is used."""
