"""Fixed words of Jobs in clusters."""

from __future__ import annotations

POOL = "curfew.dev/pool"
TASK = "curfew.dev/task"
FENCE = "curfew.dev/fence"
RUN = "curfew.dev/run"
NETWORK = "curfew.dev/network"
OURS = "curfew.dev/tasks"
MANAGED = {"app.kubernetes.io/managed-by": "curfew"}
CONTAINER = "task"

LEAST_SECONDS = 2  # between two looks at a cluster
MOST_PAUSE_SECONDS = 60
PASS_SECONDS = 120  # a look that takes longer is taken over by another
BEAT_SECONDS = 15
PENDING_SECONDS = 900  # how long a pod may wait for a node or an image to arrive
IMAGE_PATIENCE_SECONDS = 60
STOP_PATIENCE_SECONDS = 60
LEASE_MARGIN_SECONDS = 300
GRACE_SECONDS = 10
MOST_CLAIMS = 20
LOG_SECONDS = 20.0  # of one look, for the logs of all tasks together
PROTECTED = ("default", "curfew", "curfew-system")
