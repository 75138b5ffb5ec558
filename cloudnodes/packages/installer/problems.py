"""What can go wrong during an installation, and the exit code that says so."""

from __future__ import annotations

OK = 0
SOME_FAILED = 1
USAGE = 2
REFUSED = 3
NO_DOCKER = 4
BASE_MISSING = 5
BUSY = 6
INTERRUPTED = 130

MEANINGS = {
    OK: "everything is as asked",
    SOME_FAILED: "at least one node failed; the others are done",
    USAGE: "the command line was not understood",
    REFUSED: "the package was refused (damaged, unsafe, or its signature is not right); nothing was changed",
    NO_DOCKER: "no usable Docker engine (absent, older than 20.10, another platform, too little room); nothing was changed",
    BASE_MISSING: "an upgrade package without the layers that it builds on; nothing was changed",
    BUSY: "another installation is under way",
    INTERRUPTED: "interrupted; run the same command again to go on",
}


class InstallProblem(Exception):
    """An expected failure: a stable `code`, words for a person, the exit code, what to do next."""

    def __init__(self, code: str, message: str, exit_code: int = REFUSED, next_step: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.exit_code = exit_code
        self.next_step = next_step


class DockerFailed(InstallProblem):
    """One Docker command failed; `message` holds Docker's own words."""

    def __init__(self, message: str, code: str = "docker_failed") -> None:
        super().__init__(code, message, SOME_FAILED)
