"""`python -m agent KIND [options]`: one program, one kind of agent a process.

Only the module of the chosen kind is imported, so that each kind pays for its own memory alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence

from agent import __version__

KINDS = {
    "cluster": ("agent.cluster.main", "reports a Kubernetes cluster"),
    "webhook": ("agent.cluster.webhook.main", "applies placement rules to a cluster's new pods"),
    "machine": ("agent.machine.main", "reports a rented machine and its GPUs"),
    "worker": ("agent.worker.main", "runs tasks"),
    "cli": ("agent.cli.main", "talks to the platform from a shell"),
}


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _usage() -> str:
    lines = ["usage: python -m agent KIND [options]; each KIND has --help", "", "kinds in this installation:"]
    lines += [f"  {kind:<8} {text}" for kind, (module, text) in KINDS.items() if _installed(module)]
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the agent of the kind named first; returns its exit code, 2 for a kind that is not installed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words[:1] == ["--version"]:
        sys.stdout.write(f"curfew-agent {__version__}\n")
        return 0
    if not words or words[0] in {"-h", "--help"}:
        sys.stdout.write(_usage())
        return 0 if words else 2
    module, _ = KINDS.get(words[0], ("", ""))
    if not module or not _installed(module):
        sys.stderr.write(f"There is no agent of the kind {words[0]!r} here.\n{_usage()}")
        return 2
    return int(importlib.import_module(module).main(words[1:]))


if __name__ == "__main__":
    sys.exit(main())
