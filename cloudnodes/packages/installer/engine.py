"""The Docker engine of this machine, through its command line: present wherever Docker is, on every system."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from cloudnodes.packages.installer.problems import NO_DOCKER, DockerFailed, InstallProblem

OLDEST = (20, 10)
QUICK_SECONDS = 60
SLOW_SECONDS = 600
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class LocalImage(NamedTuple):
    id: str
    tags: List[str]
    layers: List[str]


class Docker:
    """One engine. `settings` are added to the environment of each command (`DOCKER_HOST` above all)."""

    def __init__(self, program: str = "docker", settings: Optional[Dict[str, str]] = None) -> None:
        self.program = program
        self.environment = {**os.environ, **(settings or {})}
        self.facts: Dict[str, Any] = {}

    def run(self, *arguments: str, seconds: float = QUICK_SECONDS, secrets: Optional[Dict[str, str]] = None) -> str:
        """The output of one command; DockerFailed with Docker's own words. `secrets` go into its environment only."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=seconds,
                env={**self.environment, **(secrets or {})},
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DockerFailed(
                "docker %s did not end within %d s." % (arguments[0], seconds), "docker_timeout"
            ) from None
        except OSError as failure:
            raise InstallProblem(
                "no_docker",
                "The docker command cannot be run: %s." % failure.strerror,
                NO_DOCKER,
                "Install Docker 20.10 or newer.",
            ) from None
        if done.returncode:
            raise DockerFailed(_words(done.stderr) or "docker %s ended with code %d." % (arguments[0], done.returncode))
        return done.stdout.decode("utf-8", "replace").strip()

    def check(self, architecture: str) -> None:
        """Learn what the engine is; refuses one that is down, too old, or for another kind of processor."""
        if shutil.which(self.program) is None:
            raise InstallProblem(
                "no_docker", "Docker is not installed on this machine.", NO_DOCKER, "Install Docker 20.10 or newer."
            )
        try:
            self.facts = json.loads(self.run("info", "--format", "{{json .}}"))
        except DockerFailed as failure:
            raise InstallProblem(
                "docker_down",
                "The Docker engine does not answer: %s" % failure.message,
                NO_DOCKER,
                "Start Docker, then run this again.",
            ) from None
        problems = self.facts.get("ServerErrors") or []
        version = str(self.facts.get("ServerVersion") or "")
        if problems or not version:
            words = "; ".join(str(p) for p in problems)
            raise InstallProblem(
                "docker_down",
                "The Docker engine does not answer: %s" % words,
                NO_DOCKER,
                "Start Docker, then run this again.",
            )
        numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:2])
        if numbers < OLDEST:
            raise InstallProblem(
                "docker_old", "Docker %s is too old; 20.10 is needed." % version, NO_DOCKER, "Update Docker."
            )
        here = self.architecture()
        if self.facts.get("OSType") != "linux" or here != architecture:
            raise InstallProblem(
                "wrong_platform",
                "The package is for linux/%s, this engine is %s/%s." % (architecture, self.facts.get("OSType"), here),
                NO_DOCKER,
                "Ask for a package for this kind of machine.",
            )

    def architecture(self) -> str:
        machine = str(self.facts.get("Architecture", ""))
        return _MACHINES.get(machine, machine)

    def has_gpu(self) -> bool:
        """Whether the engine can hand out NVIDIA GPUs."""
        runtimes = self.facts.get("Runtimes") or {}
        return "nvidia" in runtimes or bool(
            shutil.which("nvidia-container-runtime-hook") and shutil.which("nvidia-smi")
        )

    def keeps_chains(self) -> bool:
        """Whether loading may leave out layers that are there already: true of every store but containerd's."""
        status = self.facts.get("DriverStatus") or []
        return not any("containerd" in str(value) for pair in status for value in pair)

    def free_bytes(self) -> Optional[int]:
        """Room where the engine keeps its images; None when that is not on this machine."""
        root = str(self.facts.get("DockerRootDir") or "")
        return shutil.disk_usage(root).free if root and os.path.isdir(root) else None

    def has_compose(self) -> bool:
        try:
            return bool(self.run("compose", "version", "--short"))
        except DockerFailed:
            return shutil.which("docker-compose") is not None

    # images

    def image(self, name: str) -> Optional[LocalImage]:
        """An image by tag or id, None when the engine has none of that name."""
        found = self._inspect("image", [name])
        return _local_image(found[0]) if found else None

    def images(self) -> List[LocalImage]:
        ids = sorted(set(self.run("images", "--quiet", "--no-trunc").split()))
        return [_local_image(raw) for raw in self._inspect("image", ids)] if ids else []

    def tag(self, image: str, name: str) -> None:
        self.run("tag", image, name)

    def remove_tag(self, name: str) -> None:
        """Take a tag away, and with the last one the image. Absent already is success."""
        if self.image(name) is not None:
            self.run("rmi", name, seconds=SLOW_SECONDS)

    def load(self, pieces: Iterator[bytes]) -> None:
        """Feed an archive to `docker load`. If `pieces` raises, the engine sees a cut-off archive and keeps nothing."""
        feeder = subprocess.Popen(
            [self.program, "load", "--quiet"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.environment,
        )
        try:
            assert feeder.stdin is not None
            for piece in pieces:
                feeder.stdin.write(piece)
            said = feeder.communicate()[0]
        except BrokenPipeError:
            said = feeder.stdout.read() if feeder.stdout else b""
            feeder.wait()
            raise DockerFailed("docker load failed: %s" % (_words(said) or "it stopped reading")) from None
        except BaseException:
            feeder.kill()
            feeder.communicate()
            raise
        if feeder.returncode:
            raise DockerFailed("docker load failed: %s" % _words(said))

    def save(self, name: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [self.program, "save", name], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment
        )

    # containers

    def container(self, name: str) -> Optional[Dict[str, Any]]:
        """What `docker inspect` says of a container, None when there is none."""
        found = self._inspect("container", [name])
        return found[0] if found else None

    def containers_labelled(self, label: str) -> List[Dict[str, Any]]:
        ids = self.run("ps", "--all", "--quiet", "--no-trunc", "--filter", "label=" + label).split()
        return self._inspect("container", ids) if ids else []

    def remove_container(self, name: str) -> None:
        """Remove a container with its anonymous volumes, running or not. Absent already is success."""
        if self.container(name) is not None:
            self.run("rm", "--force", "--volumes", name, seconds=SLOW_SECONDS)

    def tail(self, name: str) -> str:
        """The last words of a container."""
        done = subprocess.run(
            [self.program, "logs", "--tail", "3", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=QUICK_SECONDS,
            env=self.environment,
            check=False,
        )
        return _words(done.stdout)

    def _inspect(self, kind: str, names: Sequence[str]) -> List[Dict[str, Any]]:
        try:
            found: List[Dict[str, Any]] = json.loads(self.run(kind, "inspect", *names))
        except DockerFailed as failure:
            if re.search(r"(?i)no such (image|container|object)", failure.message):
                return []
            raise
        return found


def _local_image(raw: Dict[str, Any]) -> LocalImage:
    layers = [str(layer).partition(":")[2] for layer in (raw.get("RootFS") or {}).get("Layers") or []]
    return LocalImage(str(raw["Id"]), [str(t) for t in raw.get("RepoTags") or []], layers)


def _words(raw: bytes) -> str:
    """What a program said, on one line and short enough to show."""
    return " ".join(raw.decode("utf-8", "replace").split())[-600:]


def chains_of(images: Sequence[LocalImage]) -> "set[Tuple[str, ...]]":
    """Every beginning of every image's layers: what the engine can build upon."""
    return {tuple(i.layers[:end]) for i in images for end in range(1, len(i.layers) + 1)}
