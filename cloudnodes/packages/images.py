"""Images of the engine that a package is built from: facts, pulling, and `docker save` as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from accounts.providers.docker_errors import docker_errors
from cloudnodes.packages.catalog import Known
from cloudnodes.packages.format import CONTAINER_PORT, PackageProblem, looks_secret
from core.providers import NotFound

CHUNK = 2 * 1024 * 1024
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the engine says of an image: digests as hex, size in bytes, names of variables that seem to hold secrets."""

    reference: str
    layers: tuple[str, ...]
    size: int
    created: str
    architecture: str
    secret_variables: tuple[str, ...] = ()


class ImageSource(Protocol):
    """Where images come from."""

    def facts(self, reference: str, *, pull: bool, progress: Callable[[str], None]) -> ImageFacts:
        """Facts of an image; pulls it first when it is missing and `pull` allows. Raises PackageProblem, ProviderError."""

    def save(self, reference: str) -> Iterator[bytes]:
        """The archive of `docker save` of a tag, piece by piece."""


class EngineImages:
    """Images of one Docker engine. `client` is a low-level docker client whose read timeout is generous."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def facts(self, reference: str, *, pull: bool, progress: Callable[[str], None]) -> ImageFacts:
        try:
            return self._facts(reference)
        except NotFound:
            if not pull:
                raise PackageProblem(
                    "no_image",
                    f"The engine has no image {reference}.",
                    "Pull or build it there first, or allow pulling.",
                ) from None
        self._pull(reference, progress)
        return self._facts(reference)

    def save(self, reference: str) -> Iterator[bytes]:
        with docker_errors():
            yield from self._client.get_image(reference, chunk_size=CHUNK)

    def labelled(self) -> dict[str, Known]:
        """Nodes that the engine knows by the label `curfew.node-type`, on a container or else on an image."""
        label = {"label": ["curfew.node-type"]}
        with docker_errors():
            images = [
                (i.get("Labels") or {}, tag)
                for i in self._client.images(filters=label)
                for tag in i.get("RepoTags") or []
            ]
            containers = [
                (c.get("Labels") or {}, str(c.get("Image") or ""))
                for c in self._client.containers(all=True, filters=label)
            ]
        found: dict[str, Known] = {}
        for labels, image in [*images, *containers]:
            if image and not image.startswith("sha256:") and "<none>" not in image:
                port = str(labels.get("curfew.port", ""))
                health_path = str(labels.get("curfew.health-path", ""))
                found[str(labels["curfew.node-type"])] = Known(
                    image, int(port) if port.isdigit() else CONTAINER_PORT, health_path
                )
        return found

    def _facts(self, reference: str) -> ImageFacts:
        with docker_errors():
            raw = self._client.inspect_image(reference)
        layers = tuple(str(layer).partition(":")[2] for layer in (raw.get("RootFS") or {}).get("Layers") or [])
        if raw.get("Os") != "linux" or not layers:
            raise PackageProblem("not_linux", f"{reference} is not a Linux image with layers.")
        machine = str(raw.get("Architecture") or "")
        variables = [str(line).partition("=") for line in (raw.get("Config") or {}).get("Env") or []]
        return ImageFacts(
            reference,
            layers,
            int(raw.get("Size") or 0),
            str(raw.get("Created") or ""),
            _MACHINES.get(machine, machine),
            tuple(sorted(name for name, _, value in variables if value and looks_secret(name))),
        )

    def _pull(self, reference: str, progress: Callable[[str], None]) -> None:
        name, _, tag = reference.rpartition(":")
        with docker_errors():
            for line in self._client.pull(name, tag=tag, stream=True, decode=True):
                if line.get("error"):
                    raise PackageProblem(
                        "pull_failed",
                        f"{reference} could not be pulled: {line['error']}",
                        "Check the name and the registry log-in.",
                    )
                progress(f"Pulling {reference}: {line.get('status', '')}")
