"""One node's container: how it is created, replaced without losing the one that worked, started and removed."""

from __future__ import annotations

import hashlib
import json
import os
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional

from cloudnodes.packages.installer.contents import Image, Node
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.installer.problems import SOME_FAILED, DockerFailed, InstallProblem

INSTALL_LABEL, SLUG_LABEL, SPEC_LABEL = "curfew.package.install", "curfew.package.node", "curfew.package.spec"
# How long a container must stay up after its start to count as started.
SETTLE_SECONDS = 2.0
_NO_GPU = (
    "could not select device driver",
    "nvidia-container-cli",
    "unknown or invalid runtime",
    "libnvidia-ml",
    "nvidia-container-runtime",
)


class Wanted(NamedTuple):
    """A container as it should be. `profile` is gpu or cpu, `tag` the name of the image on this engine."""

    node: Node
    image: Image
    tag: str
    port: int
    profile: str
    install_id: str
    folder: str

    @property
    def container(self) -> str:
        return "curfew-" + self.node.slug

    @property
    def endpoint(self) -> str:
        port = self.port if self.node.network == "bridge" else self.node.container_port
        return "" if self.node.network == "none" else "http://localhost:%d" % port

    def environment(self) -> Dict[str, str]:
        """Variables with their values; credentials come from the environment of whoever runs this."""
        chosen = {"CURFEW_PROFILE": self.profile, **self.node.environment}
        return {**chosen, **(self.node.gpu_environment if self.profile == "gpu" else {})}

    def spec(self) -> str:
        """What a container is made from, as a digest: another digest means that it must be made anew."""
        facts = [
            self.image.config,
            [layer.diff_id for layer in self.image.layers],
            self.tag,
            self.port,
            self.node.container_port,
            self.node.network,
            self.profile,
            self.node.gpu_tier,
            self.node.health_path,
            self.node.name,
            sorted(self.environment().items()),
            sorted(self.node.credentials),
        ]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def labels(self) -> Dict[str, str]:
        """Ours, those by which Curfew finds nodes, and those by which `docker compose` knows its own containers."""
        found = {
            INSTALL_LABEL: self.install_id,
            SLUG_LABEL: self.node.slug,
            SPEC_LABEL: self.spec(),
            "curfew.node-type": self.node.name,
            "curfew.gpu-tier": self.node.gpu_tier if self.profile == "gpu" else "cpu",
            "com.docker.compose.project": self.container,
            "com.docker.compose.service": self.node.slug,
            "com.docker.compose.oneoff": "False",
            "com.docker.compose.container-number": "1",
            "com.docker.compose.config-hash": self.spec(),
            "com.docker.compose.project.working_dir": self.folder,
            "com.docker.compose.version": "2.0.0",
            "com.docker.compose.project.config_files": ",".join(
                os.path.join(self.folder, name) for name in compose_files(self.profile)
            ),
        }
        if self.node.network != "none":
            found["curfew.port"] = str(self.port if self.node.network == "bridge" else self.node.container_port)
        if self.node.health_path:
            found["curfew.health-path"] = self.node.health_path
        return found

    def settings(self) -> str:
        """The `.env` beside compose.yml, so that `docker compose` in that folder speaks of the same container."""
        lines = [
            "COMPOSE_PROJECT_NAME=" + self.container,
            "COMPOSE_PATH_SEPARATOR=:",
            "COMPOSE_FILE=" + ":".join(compose_files(self.profile)),
            "CURFEW_IMAGE=" + self.tag,
            "CURFEW_PORT=%d" % self.port,
            "CURFEW_INSTALL=" + self.install_id,
            "CURFEW_SPEC=" + self.spec(),
        ]
        return "\n".join(lines) + "\n"

    def credentials(self, old: Optional[Dict[str, Any]] = None) -> Dict[str, str]:
        """Values of the credentials: from the environment of whoever runs this, else those that the old container has."""
        had = dict(line.partition("=")[::2] for line in (old["Config"].get("Env") or [])) if old else {}
        found = {name: os.environ.get(name) or had.get(name, "") for name in self.node.credentials}
        return {name: value for name, value in found.items() if value}

    def arguments(self, credentials: Iterable[str] = ()) -> List[str]:
        """What follows `docker create`; of a credential only the name, which Docker looks up in its environment."""
        found = ["--name", self.container, "--restart", "unless-stopped", "--network", self.node.network]
        if self.node.network == "bridge":
            found += ["--publish", "%d:%d" % (self.port, self.node.container_port)]
        if self.profile == "gpu":
            found += ["--gpus", "1"]
        for name, value in sorted(self.environment().items()):
            found += ["--env", "%s=%s" % (name, value)]
        for name in sorted(credentials):
            found += ["--env", name]
        for name, value in sorted(self.labels().items()):
            found += ["--label", "%s=%s" % (name, value)]
        return [*found, self.tag]


def compose_files(profile: str) -> List[str]:
    return ["compose.yml", "compose.gpu.yml"] if profile == "gpu" else ["compose.yml"]


def is_running(facts: Optional[Dict[str, Any]]) -> bool:
    return bool(facts and facts["State"].get("Running"))


def labels_of(facts: Dict[str, Any]) -> Dict[str, str]:
    return dict(facts["Config"].get("Labels") or {})


def check_owner(facts: Optional[Dict[str, Any]], wanted: Wanted, take_over: bool) -> None:
    """Refuse to touch a container of the same name that this installation did not make."""
    if facts is None or labels_of(facts).get(INSTALL_LABEL) == wanted.install_id:
        return
    if take_over and SLUG_LABEL in labels_of(facts):
        return
    known = SLUG_LABEL in labels_of(facts)
    raise InstallProblem(
        "name_taken",
        "A container named %s exists already and %s."
        % (wanted.container, "belongs to another installation" if known else "is not ours"),
        SOME_FAILED,
        "Use --force to take it over." if known else "Rename or remove it, then run this again.",
    )


def put_container(docker: Docker, wanted: Wanted, take_over: bool = False, running: bool = False) -> str:
    """Bring the container in line; says `created`, `kept` or `replaced`. `running`: it ran before and shall run again.
    If anything fails, the one that was replaced is put back as it was."""
    old = docker.container(wanted.container)
    check_owner(old, wanted, take_over)
    aside = wanted.container + "-before"
    left = docker.container(aside)
    if left is not None and old is None:
        # killed in the middle of a replacement
        check_owner(left, wanted, take_over)
        docker.run("rename", aside, wanted.container)
        old = docker.container(wanted.container)
    elif left is not None:
        check_owner(left, wanted, take_over)
        docker.remove_container(aside)
    if old is not None and _is_right(old, wanted):
        if running and not is_running(old):
            start_container(docker, wanted)
        return "kept"
    if old is None:
        _create(docker, wanted, None)
        return "created"
    _replace(docker, wanted, old, aside, running)
    return "replaced"


def _is_right(facts: Dict[str, Any], wanted: Wanted) -> bool:
    labels = labels_of(facts)
    ours = labels.get(INSTALL_LABEL) == wanted.install_id
    same = ours and labels.get(SPEC_LABEL) == wanted.spec() and facts["State"].get("Status") != "dead"
    return same and {"%s=%s" % pair for pair in wanted.credentials(facts).items()} <= set(
        facts["Config"].get("Env") or []
    )


def _create(docker: Docker, wanted: Wanted, old: Optional[Dict[str, Any]]) -> None:
    credentials = wanted.credentials(old)
    docker.run("create", *wanted.arguments(credentials), secrets=credentials)


def _replace(docker: Docker, wanted: Wanted, old: Dict[str, Any], aside: str, running: bool) -> None:
    if is_running(old):
        docker.run("stop", wanted.container, seconds=120)
    docker.run("rename", wanted.container, aside)
    try:
        _create(docker, wanted, old)
        if running:
            start_container(docker, wanted)
    except InstallProblem:
        docker.remove_container(wanted.container)
        docker.run("rename", aside, wanted.container)
        if running:
            docker.run("start", wanted.container)
        raise
    docker.remove_container(aside)


def start_container(docker: Docker, wanted: Wanted) -> None:
    """Start it and see that it stays up; DockerFailed with its last words otherwise."""
    docker.run("start", wanted.container, seconds=120)
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        facts = docker.container(wanted.container)
        state = facts["State"] if facts else {}
        if not state.get("Running") or state.get("Restarting"):
            words = docker.tail(wanted.container)
            docker.run("stop", "--time", "1", wanted.container)
            raise DockerFailed(
                "It ended right after its start (code %s). %s" % (state.get("ExitCode"), words or "It said nothing."),
                "not_running",
            )
        time.sleep(0.25)


def lacks_gpu(failure: InstallProblem) -> bool:
    """Whether Docker's words mean that no GPU can be handed out."""
    return any(words in failure.message for words in _NO_GPU)
