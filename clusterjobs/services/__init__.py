"""Every write of clusters that run tasks."""

from clusterjobs.services.pools import change, offer, withdraw
from clusterjobs.services.tending import tend, tend_due

__all__ = ["change", "offer", "tend", "tend_due", "withdraw"]
