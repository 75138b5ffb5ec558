"""A Vast.ai that misbehaves as the real one does: limits, plain-text 429s, errors after the effect, hosts that stick."""

from tests.fakes.vast.server import FakeVast
from tests.fakes.vast.world import Direct, Fate, Host, VastWorld

__all__ = ["Direct", "FakeVast", "Fate", "Host", "VastWorld"]
