"""How a node's price divides between its CPU, its memory and its GPUs.

Clouds price machines, not cores. One vCPU counts as much as 10 GiB of memory: the ratio that explains the on-demand
prices of AWS us-east-1 Linux best (2026-07-20, the 691 c, m and r types without a GPU or a local disk, least squares of
the relative error: 0.0383 a vCPU hour, 0.0038 a GiB hour; half of the types are within 19 %). One GPU counts as 30
vCPUs, the ratio of OpenCost's default prices (0.95 to 0.0316, 2026). Only the ratios are used; the sum of the parts is
always the node's own price.
"""

from __future__ import annotations

from fractions import Fraction

from clusters.analysis.facts import GIB, Resources

GIB_PER_VCPU = 10
VCPUS_PER_GPU = 30


def weigh(amount: Resources) -> tuple[Fraction, Fraction, Fraction]:
    """What CPU, memory and GPUs of an amount are worth, in vCPUs."""
    return (
        Fraction(amount.cpu_milli, 1000),
        Fraction(amount.memory_bytes, GIB * GIB_PER_VCPU),
        Fraction(amount.gpus * VCPUS_PER_GPU),
    )


def shares(amount: Resources) -> tuple[Fraction, Fraction, Fraction]:
    """The parts of the price of a machine of that size that its CPU, memory and GPUs stand for; they add up to 1.

    All zero for a machine without any.
    """
    parts = weigh(amount)
    total = sum(parts, Fraction(0))
    return (parts[0] / total, parts[1] / total, parts[2] / total) if total else parts
