"""`python -m agent …` with a clock that is off: `python -m tests.live.skewed SECONDS cluster --url …`."""

from __future__ import annotations

import datetime as dt
import sys
import time


def skew(seconds: float) -> None:
    """Let every clock that tells the time of day be ahead by that much; how much time passes stays true."""
    off, real, true_time = dt.timedelta(seconds=seconds), dt.datetime, time.time

    class Shifted(real):  # type: ignore[misc,valid-type]  # the class that it stands in for
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return real.now(tz) + off

    dt.datetime = Shifted  # type: ignore[misc]
    time.time = lambda: true_time() + seconds


if __name__ == "__main__":
    skew(float(sys.argv.pop(1)))
    from agent.__main__ import main

    sys.exit(main(sys.argv[1:]))
