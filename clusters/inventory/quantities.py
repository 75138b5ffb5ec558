"""Kubernetes quantities, exactly."""

from agent.wire.quantities import BadQuantity, amount, format_bytes, format_cpu, milli, nano, units

__all__ = ["BadQuantity", "amount", "format_bytes", "format_cpu", "milli", "nano", "units"]
