"""Several web processes that share one listening socket: more than one core for many browsers on one machine.

uvicorn supervises them: one that ends is started again, a signal ends all. They end with their parent, whatever ends it.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import socket
import sys
from typing import Any

PR_SET_PDEATHSIG = 1
# A process in the midst of a burst may be slow to say that it lives.
ALIVE_SECONDS = 30


def serve_in_several(listening: socket.socket, processes: int, **options: Any) -> None:
    """Serve in so many processes until a signal; `options` are those of `uvicorn.run`."""
    import uvicorn

    uvicorn.run(
        **options,
        fd=listening.fileno(),
        workers=processes,
        timeout_worker_healthcheck=ALIVE_SECONDS,
        log_level="warning",
    )


def end_with_parent() -> None:
    """In one of several processes: be killed when the parent is gone."""
    if multiprocessing.parent_process() is not None:
        die_with_parent()


def die_with_parent() -> None:
    """Be killed when the parent, or its thread that started this process, is gone; good as a `preexec_fn`. Linux alone
    can; elsewhere one outlives a parent that was killed by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
