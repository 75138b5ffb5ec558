"""Installing, upgrading, repairing and removing: everything is checked before anything is changed."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Set

from cloudnodes.packages.installer.containers import (
    INSTALL_LABEL,
    SLUG_LABEL,
    Wanted,
    check_owner,
    compose_files,
    is_running,
    labels_of,
    lacks_gpu,
    put_container,
    start_container,
)
from cloudnodes.packages.installer.contents import (
    Manifest,
    Node,
    Progress,
    Source,
    check_signature,
    open_source,
    read_manifest,
    read_small,
    verify_files,
)
from cloudnodes.packages.installer.engine import Docker, LocalImage
from cloudnodes.packages.installer.images import Need, check_room, drop_unused, plan_image, put_image
from cloudnodes.packages.installer.problems import (
    NO_DOCKER,
    OK,
    REFUSED,
    SOME_FAILED,
    USAGE,
    DockerFailed,
    InstallProblem,
)
from cloudnodes.packages.installer.state import Home, Lock

ENDPOINTS_FILE = "budgetguard_artists_config.json"


class Options(NamedTuple):
    """What was asked for. `gpu` is auto, yes or no; `ports` maps slugs to ports; `nodes` are names or slugs, none = all."""

    action: str = "install"
    package: str = ""
    home: str = "~/.curfew-local"
    nodes: Sequence[str] = ()
    start: bool = False
    force: bool = False
    dry_run: bool = False
    gpu: str = "auto"
    ports: Dict[str, int] = {}
    public_key: str = ""
    require_signature: bool = False


class Opened(NamedTuple):
    source: Source
    manifest: Manifest
    signature: str
    public_key: str
    verified: int


def open_package(options: Options, progress: Optional[Progress] = None, trusted_key: str = "") -> Opened:
    """Open a package and verify all of it. Nothing of it is used before this has returned."""
    source = open_source(options.package)
    manifest = read_manifest(source)
    signature = check_signature(source, options.public_key, options.require_signature)
    if trusted_key and signature.public_key != trusted_key and not (options.public_key or options.force):
        raise InstallProblem(
            "key_changed",
            "Earlier packages on this machine were signed by %s; this one is %s."
            % (trusted_key, "signed by " + signature.public_key if signature.public_key else "not signed"),
            REFUSED,
            "Ask who built it, then give --public-key, or --force.",
        )
    return Opened(source, manifest, signature.state, signature.public_key, verify_files(source, manifest, progress))


def shape_of(opened: Opened) -> Dict[str, Any]:
    manifest = opened.manifest
    return {
        "title": manifest.title,
        "sha256": manifest.sha256,
        "created": manifest.created,
        "bytes": opened.verified,
        "base": manifest.base,
        "signature": opened.signature,
        "public_key": opened.public_key,
        "nodes": [n.name for n in manifest.nodes],
        "images": list(manifest.images),
    }


def verify(options: Options, progress: Optional[Progress] = None) -> Dict[str, Any]:
    """Only look whether the package is whole."""
    return {"action": "verify", "package": shape_of(open_package(options, progress)), "exit_code": OK}


class Installation:
    """One run of install, upgrade or repair."""

    def __init__(
        self,
        options: Options,
        docker: Docker,
        progress: Optional[Progress] = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.options, self.docker, self.say, self.progress = options, docker, say, progress
        self.home = Home(options.home)
        self.opened = open_package(options, progress, self.home.trusted_key)
        self.nodes = self._chosen()
        docker.check(self.opened.manifest.architecture)
        self.local: List[LocalImage] = docker.images()
        self.needs = self._needs()
        self.lines: List[Dict[str, Any]] = []
        self.images: List[Dict[str, Any]] = []
        self.warnings: List[str] = []

    def _chosen(self) -> List[Node]:
        nodes, action = self.opened.manifest.nodes, self.options.action
        if action in ("upgrade", "repair") and not self.home.nodes:
            raise InstallProblem("not_installed", "Nothing is installed in %s." % self.home.path, USAGE, "Use install.")
        unknown = [n for n in self.options.nodes if n not in {x for node in nodes for x in (node.name, node.slug)}]
        if unknown:
            raise InstallProblem(
                "unknown_node",
                "The package has no node %s." % ", ".join(unknown),
                USAGE,
                "It has: %s." % ", ".join(n.name for n in nodes),
            )
        if self.options.nodes:
            return [n for n in nodes if n.name in self.options.nodes or n.slug in self.options.nodes]
        return [n for n in nodes if n.slug in self.home.nodes] if action == "repair" else nodes

    def _needs(self) -> Dict[str, Need]:
        images = self.opened.manifest.images
        needs = {
            r: plan_image(self.docker, self.opened.source, images[r], self.local)
            for r in dict.fromkeys(n.image for n in self.nodes)
        }
        if not self.options.force:
            check_room(self.docker, list(needs.values()))
        return needs

    def wanted(self, node: Node) -> Wanted:
        record = self.home.nodes.get(node.slug, {})
        port = self.options.ports.get(node.slug) or (record["port"] if record.get("port_chosen") else node.port)
        use_gpu = node.gpu and (self.options.gpu == "yes" or (self.options.gpu == "auto" and self.docker.has_gpu()))
        folder = self.home.place("nodes", node.slug)
        need = self.needs[node.image]
        return Wanted(node, need.image, need.tag, port, "gpu" if use_gpu else "cpu", self.home.id, folder)

    def plan(self) -> Dict[str, Any]:
        """What a run would do; nothing is written."""
        for need in self.needs.values():
            self.images.append(
                {
                    "reference": need.image.reference,
                    "tag": need.tag,
                    "result": "present" if need.present else "would load",
                    "bytes": need.bytes,
                }
            )
        for node in self.nodes:
            wanted = self.wanted(node)
            there = self.docker.container(wanted.container)
            line = self._line(wanted, "would create" if there is None else "would keep or replace")
            try:
                check_owner(there, wanted, self.options.force)
            except InstallProblem as problem:
                line.update(result="would fail", message=problem.message, next_step=problem.next_step)
            self.lines.append(line)
        return self.report()

    def run(self) -> Dict[str, Any]:
        """Do it, node by node: one that fails keeps no other from being installed."""
        with Lock(self.home):
            self.home.save()
            self._endpoints()
            refused = self._refused()
            failed = self._load({n.image for n in self.nodes if n.slug not in refused})
            for node in self.nodes:
                self.lines.append(self._install(node, refused.get(node.slug) or failed.get(node.image)))
            if self.opened.public_key and self.options.public_key:
                self.home.trusted_key = self.opened.public_key
            removed, kept = drop_unused(self.docker, self.home)
            self.warnings += ["Not removed: %s" % words for words in kept]
            self.home.save()
        return self.report(removed)

    def _refused(self) -> Dict[str, InstallProblem]:
        """Nodes whose container's name belongs to somebody else: known before anything is loaded for them."""
        refused = {}
        for node in self.nodes:
            wanted = self.wanted(node)
            try:
                check_owner(self.docker.container(wanted.container), wanted, self.options.force)
            except InstallProblem as problem:
                refused[node.slug] = problem
        return refused

    def _load(self, references: Set[str]) -> Dict[str, InstallProblem]:
        """Bring the images in; those that failed, with the reason."""
        failed: Dict[str, InstallProblem] = {}
        for reference, need in self.needs.items():
            if reference not in references:
                continue
            self.say("%s is there" % reference if need.present else "Loading %s" % reference)
            try:
                self.images.append(
                    put_image(
                        self.docker, self.opened.source, need, self.home, self.options.force, self.local, self.progress
                    )
                )
            except DockerFailed as problem:
                failed[reference] = problem
                self.images.append(
                    {"reference": reference, "tag": need.tag, "result": "failed", "message": problem.message}
                )
        return failed

    def _endpoints(self) -> None:
        if ENDPOINTS_FILE in self.opened.manifest.files:
            self.home.write(ENDPOINTS_FILE, read_small(self.opened.source, ENDPOINTS_FILE))

    def _install(self, node: Node, failed: Optional[InstallProblem]) -> Dict[str, Any]:
        wanted = self.wanted(node)
        self.say("Installing %s" % node.name)
        try:
            if failed is not None:
                raise failed
            result = self._put(wanted)
            if self.options.start:
                wanted = self._start(wanted)
            line = self._line(wanted, result)
        except InstallProblem as problem:
            line = self._line(wanted, "failed")
            line.update(message=problem.message, code=problem.code, next_step=problem.next_step)
        line["running"] = is_running(self.docker.container(wanted.container))
        return line

    def _put(self, wanted: Wanted) -> str:
        """Files, record, container, in this order: a kill in between leaves nothing that uninstall does not know."""
        node = wanted.node
        before = self.home.nodes.get(node.slug)
        running = is_running(self.docker.container(wanted.container)) or bool(before and before.get("was_running"))
        folder = "nodes/%s/" % node.slug
        for name in ("compose.yml", "compose.gpu.yml"):
            if folder + name in self.opened.manifest.files:
                self.home.write(folder + name, read_small(self.opened.source, folder + name))
        self.home.write(folder + ".env", wanted.settings().encode())
        self.home.nodes[node.slug] = {
            "name": node.name,
            "image": wanted.tag,
            "container": wanted.container,
            "spec": wanted.spec(),
            "profile": wanted.profile,
            "port": wanted.port,
            "port_chosen": node.slug in self.options.ports or bool(before and before.get("port_chosen")),
            "package": self.opened.manifest.sha256,
            "was_running": running,
        }
        self.home.save()
        try:
            done = put_container(self.docker, wanted, self.options.force, running)
        except InstallProblem:
            if before is not None:
                self.home.nodes[node.slug] = before
            elif self.docker.container(wanted.container) is None:
                del self.home.nodes[node.slug]
                self.home.remove_files(folder)
            self.home.save()
            raise
        self.home.nodes[node.slug]["was_running"] = False
        self.home.save()
        words = {
            "created": "repaired" if before else "installed",
            "replaced": "upgraded" if before else "installed",
            "kept": "kept",
        }
        return words[done]

    def _start(self, wanted: Wanted) -> Wanted:
        """Start it. Where Docker turns out to have no GPU to give, the CPU profile takes its place."""
        try:
            start_container(self.docker, wanted)
        except DockerFailed as failure:
            if wanted.profile != "gpu" or self.options.gpu != "auto" or not lacks_gpu(failure):
                raise
            self.warnings.append("%s: Docker has no GPU to give, so it runs without." % wanted.node.name)
            wanted = wanted._replace(profile="cpu")
            self._put(wanted)
            start_container(self.docker, wanted)
        return wanted

    def _line(self, wanted: Wanted, result: str) -> Dict[str, Any]:
        missing = sorted(
            set(wanted.node.credentials) - set(wanted.credentials(self.docker.container(wanted.container)))
        )
        return {
            "name": wanted.node.name,
            "slug": wanted.node.slug,
            "result": result,
            "container": wanted.container,
            "profile": wanted.profile,
            "endpoint": wanted.endpoint,
            "credentials_missing": missing,
            "message": "",
            "code": "",
            "next_step": "",
        }

    def report(self, removed: Sequence[str] = ()) -> Dict[str, Any]:
        failed = any(line["result"] in ("failed", "would fail") for line in self.lines)
        return {
            "action": self.options.action,
            "dry_run": self.options.dry_run,
            "package": shape_of(self.opened),
            "home": self.home.path,
            "nodes": self.lines,
            "images": self.images,
            "removed_images": list(removed),
            "warnings": self.warnings,
            "compose": self.docker.has_compose(),
            "exit_code": SOME_FAILED if failed else OK,
        }


def uninstall(options: Options, docker: Docker) -> Dict[str, Any]:
    """Remove nodes, or all: containers, images that we brought, names that we gave, files and the folder.

    With --force also containers that an earlier installation left whose folder is gone.
    """
    home = Home(options.home)
    slugs = [s for s, n in home.nodes.items() if not options.nodes or s in options.nodes or n["name"] in options.nodes]
    known = {name for slug, node in home.nodes.items() for name in (slug, node["name"])}
    if not options.force and not set(options.nodes) <= known:
        raise InstallProblem(
            "unknown_node", "%s is not installed." % ", ".join(sorted(set(options.nodes) - known)), USAGE
        )
    report: Dict[str, Any] = {
        "action": "uninstall",
        "dry_run": options.dry_run,
        "home": home.path,
        "nodes": [],
        "removed_images": [],
        "warnings": [],
        "exit_code": OK,
    }
    if options.dry_run:
        report["nodes"] = [
            {"name": home.nodes[s]["name"], "slug": s, "result": "would remove", "message": ""} for s in slugs
        ]
        return report
    if not home.exists and not options.force:
        return report
    _check_engine(docker)
    with Lock(home):
        for slug in slugs:
            report["nodes"].append(_remove_node(docker, home, slug))
        if options.force:
            report["nodes"] += _remove_strays(docker, home, options)
        report["removed_images"], kept = drop_unused(docker, home)
        if not home.nodes and not home.images:
            kept += ["%s is not ours" % place for place in home.remove()]
        report["warnings"] = ["Not removed: %s" % words for words in kept]
    if (home.images and not home.nodes) or any(line["result"] == "failed" for line in report["nodes"]):
        report["exit_code"] = SOME_FAILED
    return report


def _check_engine(docker: Docker) -> None:
    try:
        docker.run("version", "--format", "{{.Server.Version}}")
    except DockerFailed as failure:
        raise InstallProblem(
            "docker_down",
            "The Docker engine does not answer: %s" % failure.message,
            NO_DOCKER,
            "Start Docker, then run this again.",
        ) from None


def _remove_node(docker: Docker, home: Home, slug: str) -> Dict[str, Any]:
    record = home.nodes[slug]
    line = {"name": record["name"], "slug": slug, "container": record["container"], "result": "removed", "message": ""}
    try:
        for name in (record["container"], record["container"] + "-before"):
            facts = docker.container(name)
            if facts is not None and labels_of(facts).get(INSTALL_LABEL) == home.id:
                docker.remove_container(name)
    except DockerFailed as failure:
        line.update(result="failed", message=failure.message)
        return line
    home.remove_files("nodes/%s/" % slug)
    del home.nodes[slug]
    home.save()
    return line


def _remove_strays(docker: Docker, home: Home, options: Options) -> List[Dict[str, Any]]:
    lines = []
    for facts in docker.containers_labelled(SLUG_LABEL):
        slug, name = labels_of(facts)[SLUG_LABEL], str(facts["Name"]).lstrip("/")
        if slug in home.nodes or (options.nodes and slug not in options.nodes):
            continue
        docker.remove_container(name)
        lines.append(
            {
                "name": slug,
                "slug": slug,
                "container": name,
                "result": "removed",
                "message": "left by another installation",
            }
        )
    return lines


def status(options: Options, docker: Docker) -> Dict[str, Any]:
    """What is installed and what Docker says about it."""
    home = Home(options.home)
    lines = []
    for slug, record in home.nodes.items():
        facts = docker.container(record["container"])
        state = "missing" if facts is None else str(facts["State"].get("Status"))
        lines.append(
            {
                "name": record["name"],
                "slug": slug,
                "container": record["container"],
                "profile": record["profile"],
                "result": state,
                "port": record["port"],
                "message": "",
                "package": record["package"],
                "files": [
                    name for name in compose_files(record["profile"]) if os.path.exists(home.place("nodes", slug, name))
                ],
            }
        )
    return {
        "action": "status",
        "home": home.path,
        "nodes": lines,
        "warnings": [],
        "exit_code": SOME_FAILED if any(x["result"] == "missing" for x in lines) else OK,
    }
