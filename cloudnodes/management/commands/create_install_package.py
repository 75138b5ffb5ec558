"""Build an offline install package. Exit code 0: done; 1: it could not be built; 2: the command line was not understood;
130: interrupted, and the same command goes on where it was."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from accounts import vault
from accounts.models import CloudAccount, Organization
from accounts.providers.base import Credentials
from accounts.providers.registry import connect
from cloudnodes import package_selectors as selectors
from cloudnodes.packages import catalog
from cloudnodes.packages.builder import Built, PackageBuilder, Request, shape_of
from cloudnodes.packages.format import NETWORKS, PackageProblem
from cloudnodes.packages.images import EngineImages
from cloudnodes.packages.signing import load_key, load_or_create_key
from cloudnodes.packages.upgrade import read_base
from cloudnodes.packages.verify import verify_package
from core.providers import ProviderError

READ_SECONDS = 3600.0


class Command(BaseCommand):
    help = "Build an offline install package of cloud nodes from the images of a Docker engine."
    requires_system_checks = ()
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--nodes", required=True, help='names, separated by commas: "FLUX Dev,FLUX Canny"')
        parser.add_argument("--output", required=True, type=Path, help="the ZIP to write")
        parser.add_argument(
            "--image", action="append", default=[], metavar="NAME=IMAGE", help="the image of a node; may be repeated"
        )
        parser.add_argument(
            "--catalog",
            type=Path,
            help="JSON file with a list of nodes: name, image, container_port, environment, credentials, ...",
        )
        parser.add_argument(
            "--base", type=Path, help="an earlier package or its manifest.json: only layers that it lacks are packed"
        )
        parser.add_argument("--title", default="", help="what the package is called; the nodes' names when missing")
        parser.add_argument(
            "--network", choices=NETWORKS, default="bridge", help="network of nodes without an entry in the catalog"
        )
        parser.add_argument(
            "--pull", action=argparse.BooleanOptionalAction, default=True, help="pull images that the engine lacks"
        )
        parser.add_argument(
            "--sign", action="store_true", help="sign with this installation's key, made when there is none"
        )
        parser.add_argument("--sign-key", type=Path, help="sign with the Ed25519 key in this PEM file")
        parser.add_argument(
            "--account", default="", help="name or id of a connected Docker engine; this machine's own when missing"
        )
        parser.add_argument(
            "--org", type=UUID, help="organization whose endpoints are listed; the only one when missing"
        )
        parser.add_argument("--verify", action="store_true", help="read the finished package once more")
        parser.add_argument("--json", action="store_true", help="the result as one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            built = self._build(options)
            if options["verify"]:
                verify_package(built.path)
        except KeyboardInterrupt:
            raise CommandError("Interrupted; the same command goes on where it was.", returncode=130) from None
        except (PackageProblem, ProviderError) as problem:
            option = ' The option is --image "NAME=repository:tag".' if problem.code == "unknown_node" else ""
            self._fail(options, problem.code, problem.message, f"{problem.next_step}{option}")
        except OSError as failure:
            self._fail(options, "io", f"{failure.strerror}: {failure.filename or options['output']}", "")
        else:
            self._tell(built, options["json"])

    def _build(self, options: Mapping[str, Any]) -> Built:
        images = self._images(options)
        names = [n for n in options["nodes"].split(",") if n.strip()]
        explicit = dict(_pair(text) for text in options["image"])
        listed = catalog.read_catalog(options["catalog"]) if options["catalog"] else {}
        nodes = catalog.resolve(
            names,
            explicit=explicit,
            catalog=listed,
            known=images.labelled(),
            allow_default=options["pull"],
            network=options["network"],
        )
        endpoints, status = self._facts(options["org"], [n.name for n in nodes])
        key = (
            load_key(options["sign_key"])
            if options["sign_key"]
            else load_or_create_key(selectors.key_path())
            if options["sign"]
            else None
        )
        request = Request(
            nodes=nodes,
            output=options["output"].absolute(),
            title=options["title"],
            base=read_base(options["base"]) if options["base"] else None,
            key=key,
            pull=options["pull"],
            endpoints=endpoints,
            credentials_status=status,
        )
        return PackageBuilder(request, images, None if options["json"] else self._meter()).build()

    def _images(self, options: Mapping[str, Any]) -> EngineImages:
        connection: Any
        if options["account"]:
            rows = CloudAccount.objects.all_orgs().filter(provider="docker")
            found = [a for a in rows if options["account"] in (a.name, str(a.id))]
            if len(found) != 1:
                raise CommandError(
                    f"{len(found)} connected Docker engines are called {options['account']}; give the id.", returncode=2
                )
            connection = vault.connection_of(found[0])
        else:
            address = settings.CURFEW_DOCKER_HOST
            if not address.startswith(("unix://", "/")):
                raise CommandError(
                    f"{address} is not a local socket; connect that engine and name it with --account.", returncode=2
                )
            connection = connect(Credentials("docker", "local", "", {"socket": address}))
        return EngineImages(connection.client(read_timeout=READ_SECONDS))

    def _facts(self, org: UUID | None, names: Sequence[str]) -> tuple[dict[str, Any], dict[str, bool]]:
        """Endpoints and credential status, where there is a database with an organization to take them from."""
        try:
            known = list(Organization.objects.values_list("id", flat=True)[:2])
            if org is not None and not Organization.objects.filter(id=org).exists():
                raise CommandError("There is no such organization.", returncode=2)
            chosen = org or (known[0] if len(known) == 1 else None)
            if chosen is None:
                self.stderr.write(
                    "No endpoints are listed: say whose with --org."
                    if known
                    else "No endpoints are listed: nothing is connected yet."
                )
                return {}, {}
            return selectors.endpoints_of(organization_id=chosen, names=names), selectors.credentials_status(
                organization_id=chosen
            )
        except DatabaseError:
            self.stderr.write("No endpoints are listed: the database is not set up.")
            return {}, {}

    def _meter(self) -> Any:
        shown = (0.0, "")

        def meter(done: int, total: int, words: str) -> None:
            nonlocal shown
            now = time.monotonic()
            if words != shown[1] or now - shown[0] > 2:
                shown = (now, words)
                self.stderr.write(f"{words}: {done / 1e6:.0f} of {total / 1e6:.0f} MB" if total else words)

        return meter

    def _tell(self, built: Built, as_json: bool) -> None:
        if as_json:
            self.stdout.write(json.dumps({"ok": True, **shape_of(built), "path": str(built.path)}))
            return
        self.stdout.write(f"{built.path}: {built.size / 1e6:.1f} MB, manifest SHA-256 {built.manifest_sha256}")
        self.stdout.write(f"Nodes: {', '.join(built.nodes)}. {_signed(built)}")
        for words in built.warnings:
            self.stdout.write(f"Warning: {words}")

    def _fail(self, options: Mapping[str, Any], code: str, message: str, next_step: str) -> None:
        if options["json"]:
            self.stdout.write(
                json.dumps({"ok": False, "error": {"code": code, "message": message, "next_step": next_step}})
            )
        raise CommandError(f"{message} {next_step}".strip(), returncode=1)


def _pair(text: str) -> tuple[str, str]:
    name, separator, image = text.partition("=")
    if not separator or not name.strip() or not image.strip():
        raise CommandError(f"{text!r} is not of the form NAME=IMAGE.", returncode=2)
    return name.strip(), image.strip()


def _signed(built: Built) -> str:
    return f"Signed by {built.public_key}." if built.public_key else "Not signed."
