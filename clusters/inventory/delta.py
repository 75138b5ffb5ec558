"""Records compared and changed: `diff`, `State.apply`, digests."""

from agent.wire.delta import Changes, State, canonical, diff, digest_of

__all__ = ["Changes", "State", "canonical", "diff", "digest_of"]
