"""What the sandbox cloud remembers between two lives of its process: every change is on disk before it is answered.

Moto holds its clouds in memory. Without this, ending the demo while a machine starts would delete the machine.
The file is a pickle (about 100 kB), written and read by this module alone, in the data folder of one person; a file of
another version of moto, of another address or one that cannot be read is left aside, and the sandbox begins anew.
"""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cloudnodes.sandbox.aws_layer import Layer
    from cloudnodes.sandbox.aws_seed import Sandbox

log = logging.getLogger(__name__)
SERVICES = ("ec2", "iam", "sts", "cloudformation", "autoscaling", "eks", "ssm")
FORM = 1


class State:
    """The file of one sandbox. `save` costs about 2 ms."""

    def __init__(self, path: Path, layer: Layer, sandbox: Sandbox) -> None:
        self.path, self.layer, self.sandbox = path, layer, sandbox
        self._lock = threading.Lock()

    def save(self) -> None:
        """Put everything on disk in one step; a failure is logged and leaves the file as it was."""
        from moto.backends import get_backend

        with self._lock, self.layer.quiet():
            clouds = {
                service: {account: dict(regions) for account, regions in get_backend(service).items()}  # type: ignore[call-overload]
                for service in SERVICES
            }
            content = {"keys": self.sandbox.keys, "changes": self.layer.changes, "clouds": clouds}
            try:
                packed = pickle.dumps({**self._mark(), "content": _packed(content)})
                new = self.path.with_suffix(".new")
                with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
                    file.write(packed)
                new.replace(self.path)
            except (OSError, pickle.PicklingError, TypeError, AttributeError, RuntimeError):
                log.exception("The sandbox could not be saved")

    def load(self) -> bool:
        """Take up what the file holds; False when there is none that fits."""
        try:
            outer = pickle.loads(self.path.read_bytes())  # noqa: S301 - our own file
            if {name: outer.get(name) for name in self._mark()} != self._mark():
                return False
            content = pickle.loads(outer["content"])  # noqa: S301 - our own file
        except FileNotFoundError:
            return False
        except Exception:  # a damaged pickle may raise anything
            log.warning("The sandbox's file cannot be read; it begins anew", exc_info=True)
            return False
        from moto import settings
        from moto.backends import get_backend

        for service, accounts in content["clouds"].items():
            for account, regions in accounts.items():
                for region, backend in regions.items():
                    get_backend(service)[account][region] = backend
        self.sandbox.keys.update(content["keys"])
        self.layer.changes.update(content["changes"])
        self.layer.go_on()
        settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
        return True

    def _mark(self) -> dict[str, Any]:
        """What a file must have been written with to be read."""
        return {"form": FORM, "moto": version("moto"), "address": self.sandbox.address}


def _packed(content: Any) -> bytes:
    """Its pickle. Raises RuntimeError when another request changes it during each of ten tries."""
    for _ in range(9):
        try:
            return pickle.dumps(content)
        except RuntimeError:  # a dict changed its size
            time.sleep(0.005)
    return pickle.dumps(content)
