"""Images of a package on this engine: what is there, what must be loaded, and whose tags are whose.

An image is loaded under a tag of our own, so loading can never take a tag away from anybody. The name that people know
is added afterwards when it is free; when something else bears it, it stays where it is unless --force says otherwise,
and then the former image is kept under a backup tag.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from cloudnodes.packages.installer.contents import Image, Progress, Source
from cloudnodes.packages.installer.engine import Docker, LocalImage, chains_of
from cloudnodes.packages.installer.problems import BASE_MISSING, NO_DOCKER, DockerFailed, InstallProblem
from cloudnodes.packages.installer.savetar import LayersFromEngine, gather_layers, load_archive
from cloudnodes.packages.installer.state import Home

# `.invalid` is reserved: no registry of that name can ever exist, so nobody can serve something else under it.
OURS = "curfew.invalid/"
BACKUP = OURS + "before/"


class Need(NamedTuple):
    """What loading one image takes. `absent` are layers that come from other images of this engine."""

    image: Image
    tag: str
    present: bool
    leave_out: Set[str]
    absent: Set[str]
    bytes: int


def our_tag(image: Image) -> str:
    name = re.sub(r"[^a-z0-9/]+", "-", image.reference.rpartition(":")[0].lower()).strip("-/")
    return "%s%s:%s" % (OURS, re.sub(r"-*/-*", "/", name) or "image", image.config[:16])


def same_content(local: Optional[LocalImage], image: Image) -> bool:
    """Whether an image of the engine has exactly these layers. Ids say nothing: stores count them differently."""
    return local is not None and local.layers == [layer.diff_id for layer in image.layers]


def plan_image(docker: Docker, source: Source, image: Image, local: List[LocalImage]) -> Need:
    """What loading takes, before anything is changed; InstallProblem when the layers it builds on are missing."""
    tag = our_tag(image)
    if same_content(docker.image(tag), image):
        return Need(image, tag, True, set(), set(), 0)
    chains, known = chains_of(local), {layer for other in local for layer in other.layers}
    leave_out: Set[str] = set()
    absent: Set[str] = set()
    size, chain = 0, []
    for layer in image.layers:
        chain.append(layer.diff_id)
        if docker.keeps_chains() and tuple(chain) in chains and layer.diff_id not in absent:
            leave_out.add(layer.diff_id)
        elif layer.file is not None:
            size += source.size(layer.file)
        elif layer.diff_id in known:
            absent.add(layer.diff_id)
        else:
            raise InstallProblem(
                "base_missing",
                "%s builds on an image of an earlier package that this machine does not have." % image.reference,
                BASE_MISSING,
                "Install the earlier package first, or ask for a full one.",
            )
    return Need(image, tag, False, _only_leading(image, leave_out), absent, size)


def _only_leading(image: Image, present: Set[str]) -> Set[str]:
    """A layer that occurs again above one that must be loaded is needed as a file after all."""
    missing_seen = False
    again: Set[str] = set()
    for layer in image.layers:
        missing_seen = missing_seen or layer.diff_id not in present
        if missing_seen and layer.diff_id in present and layer.file is not None:
            again.add(layer.diff_id)
    return present - again


def check_room(docker: Docker, needs: List[Need]) -> None:
    """The engine unpacks an archive once before it keeps it: twice the size of what is loaded at a time."""
    total = sum(n.bytes for n in needs)
    wanted = total + max((n.bytes for n in needs), default=0)
    free = docker.free_bytes()
    if free is not None and free < wanted:
        raise InstallProblem(
            "no_room",
            "Docker has %d MB free; %d MB are needed to load the images." % (free // 10**6, wanted // 10**6),
            NO_DOCKER,
            "Make room (docker system df shows what takes it), or use --force.",
        )


def put_image(
    docker: Docker,
    source: Source,
    need: Need,
    home: Home,
    force: bool,
    local: List[LocalImage],
    progress: Optional[Progress] = None,
) -> Dict[str, Any]:
    """Load the image unless it is there, and give it its public name; says what was done. `progress` hears how much of
    this image the engine has taken."""
    image, tag = need.image, need.tag
    record = home.images.setdefault(
        tag, {"reference": image.reference, "layers": [], "config": image.config, "tags": [], "backups": {}}
    )
    record["layers"] = [layer.diff_id for layer in image.layers]
    home.save()
    said: Dict[str, Any] = {
        "reference": image.reference,
        "tag": tag,
        "result": "present",
        "bytes": 0,
        "tag_kept": False,
    }
    if not need.present:
        already = next(
            (other for other in local if same_content(other, image) and other.id == "sha256:" + image.config), None
        )
        if already is not None:
            docker.tag(already.id, tag)
        else:
            _load(docker, source, need, local, progress)
            said.update(result="loaded", bytes=need.bytes)
        if not same_content(docker.image(tag), image):
            raise DockerFailed("After loading, %s is not what the package holds." % image.reference, "load_mismatch")
    said["tag_kept"] = not _name_image(docker, image, tag, record, home, force)
    return said


def _load(
    docker: Docker, source: Source, need: Need, local: List[LocalImage], progress: Optional[Progress] = None
) -> None:
    borrowed: Optional[LayersFromEngine] = None
    if need.absent:
        borrowed = gather_layers(docker, need.image, need.absent, local)
    try:
        pieces = load_archive(source, need.image, need.tag, need.leave_out, borrowed.open if borrowed else None)
        docker.load(_counted(pieces, need, progress) if progress else pieces)
    finally:
        if borrowed is not None:
            borrowed.close()


def _counted(pieces: Iterator[bytes], need: Need, progress: Progress) -> Iterator[bytes]:
    done, words = 0, "Loading %s" % need.image.reference
    for piece in pieces:
        yield piece
        done += len(piece)
        progress(min(done, need.bytes), need.bytes, words)
    progress(need.bytes, need.bytes, words)


def _name_image(docker: Docker, image: Image, tag: str, record: Dict[str, Any], home: Home, force: bool) -> bool:
    """Let the public name point to our image; False when it belongs to something else and stays there."""
    name = image.reference
    there = docker.image(name)
    if same_content(there, image):
        return True
    owner = _owner_of(name, home)
    if there is not None and (owner is None or not _is_recorded(there, home.images[owner])):
        if not force:
            return False
        backup = (
            "%s%s" % (BACKUP, name.replace(":", "/").replace("//", "/").lower().replace("/", "-"))
            + ":"
            + there.id.rpartition(":")[2][:16]
        )
        record["backups"][name] = backup
        home.save()
        docker.tag(there.id, backup)
    if name not in record["tags"]:
        record["tags"].append(name)
        home.save()
    docker.tag(tag, name)
    if owner is not None and owner != tag:
        former = home.images[owner]
        former["tags"].remove(name)
        if name in former["backups"]:
            record["backups"][name] = former["backups"].pop(name)
        home.save()
    return True


def _owner_of(name: str, home: Home) -> Optional[str]:
    return next((tag for tag, record in home.images.items() if name in record["tags"]), None)


def _is_recorded(local: Optional[LocalImage], record: Dict[str, Any]) -> bool:
    return local is not None and local.layers == record["layers"]


def drop_unused(docker: Docker, home: Home) -> Tuple[List[str], List[str]]:
    """Remove images that no node of ours uses any more and give back names that were taken; what was removed, what was
    not and why. Images that were here before keep their own tags and stay."""
    removed, kept = [], []
    for tag in [t for t in home.images if not any(node["image"] == t for node in home.nodes.values())]:
        record = home.images[tag]
        try:
            for name in record["tags"]:
                if _is_recorded(docker.image(name), record):
                    docker.remove_tag(name)
            for name, backup in record["backups"].items():
                _give_back(docker, name, backup)
            docker.remove_tag(tag)
        except DockerFailed as failure:
            kept.append("%s: %s" % (record["reference"], failure.message))
            continue
        del home.images[tag]
        home.save()
        removed.append(str(record["reference"]))
    return removed, kept


def _give_back(docker: Docker, name: str, backup: str) -> None:
    if docker.image(backup) is None:
        return
    if docker.image(name) is None:
        docker.tag(backup, name)
    docker.remove_tag(backup)
