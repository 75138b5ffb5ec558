"""The command line of `install.py`."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any, Dict, List, Optional

from cloudnodes.packages.installer.actions import Installation, Options, status, uninstall, verify
from cloudnodes.packages.installer.archive import MANIFEST
from cloudnodes.packages.installer.contents import Progress
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.installer.problems import INTERRUPTED, MEANINGS, SOME_FAILED, USAGE, InstallProblem

ACTIONS = ("install", "upgrade", "repair", "uninstall", "verify", "status")
OLDEST_PYTHON = (3, 8)


def make_parser() -> argparse.ArgumentParser:
    codes = "\n".join("  %3d  %s" % pair for pair in sorted(MEANINGS.items()))
    parser = argparse.ArgumentParser(
        prog="install.py",
        description="Install cloud nodes from a package, without any network.",
        epilog="exit codes:\n" + codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("action", nargs="?", choices=ACTIONS, default="install", help="what to do (install)")
    parser.add_argument(
        "--package", default="", help="the ZIP, or the folder it was unpacked into (the folder of this file)"
    )
    parser.add_argument(
        "--home", default=Options().home, help="where compose files and the record are kept (%(default)s)"
    )
    parser.add_argument(
        "--node", action="append", default=[], dest="nodes", metavar="NAME", help="only this node; may be repeated"
    )
    parser.add_argument(
        "--start",
        action="store_true",
        help="start the containers; otherwise they are left as they are, new ones stopped",
    )
    parser.add_argument(
        "--gpu", choices=("auto", "yes", "no"), default="auto", help="use NVIDIA GPUs (auto: if Docker has them)"
    )
    parser.add_argument("--port", action="append", default=[], metavar="SLUG=PORT", help="another port on this machine")
    parser.add_argument("--public-key", default="", metavar="HEX", help="accept only packages signed by this key")
    parser.add_argument("--require-signature", action="store_true", help="refuse packages that are not signed")
    parser.add_argument(
        "--force",
        action="store_true",
        help="take over names that something else uses (its image is kept under a backup tag)",
    )
    parser.add_argument("--dry-run", action="store_true", help="verify and say what would be done")
    parser.add_argument("--json", action="store_true", help="the report as one JSON object on standard output")
    parser.add_argument("--docker", default="docker", metavar="PROGRAM", help="the docker command (%(default)s)")
    return parser


def options_from(given: argparse.Namespace) -> Options:
    ports: Dict[str, int] = {}
    for text in given.port:
        slug, _, port = text.partition("=")
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise InstallProblem("bad_port", "%s is not of the form SLUG=PORT." % text, USAGE)
        ports[slug] = int(port)
    package = given.package
    if not package and given.action not in ("uninstall", "status"):
        package = os.path.dirname(os.path.abspath(sys.argv[0]))
        if not os.path.exists(os.path.join(package, MANIFEST)):
            raise InstallProblem("no_package", "Say which package: --package X.zip", USAGE)
    return Options(
        given.action,
        package,
        given.home,
        tuple(given.nodes),
        given.start,
        given.force,
        given.dry_run,
        given.gpu,
        ports,
        given.public_key,
        given.require_signature,
    )


def perform(options: Options, docker: Docker, progress: Optional[Progress] = None, say: Any = None) -> Dict[str, Any]:
    """Do what was asked and return the report; raises InstallProblem when nothing could be begun."""
    if options.action == "verify":
        return verify(options, progress)
    if options.action == "status":
        return status(options, docker)
    if options.action == "uninstall":
        return uninstall(options, docker)
    run = Installation(options, docker, progress, say or (lambda line: None))
    return run.plan() if options.dry_run else run.run()


def describe(report: Dict[str, Any]) -> List[str]:
    """The report for people."""
    lines = []
    package = report.get("package")
    if package:
        signed = {
            "unsigned": "not signed",
            "valid": "signed by %s, a key nobody vouched for (--public-key)" % package["public_key"],
            "trusted": "signed by the given key",
        }[package["signature"]]
        lines.append("%s: %.1f MB verified; %s." % (package["title"], package["bytes"] / 1e6, signed))
        lines.append("SHA-256 of the manifest: %s" % package["sha256"])
    for image in report.get("images", []):
        kept = "; the name stays with the image that has it" if image.get("tag_kept") else ""
        words = " " + image["message"] if image.get("message") else ""
        lines.append("  image %s: %s%s%s" % (image["reference"], image["result"], kept, words))
    for node in report.get("nodes", []):
        stands = {True: "running", False: "stopped"}.get(node.get("running"), "")
        facts = ", ".join(str(f) for f in (node.get("profile"), node.get("endpoint"), stands) if f)
        lines.append("  %s: %s%s" % (node["name"], node["result"], " (%s)" % facts if facts else ""))
        if node.get("message"):
            lines.append("    %s %s" % (node["message"], node.get("next_step", "")))
        if node.get("credentials_missing"):
            lines.append(
                "    not set here: %s. Set it in the environment and run repair."
                % ", ".join(node["credentials_missing"])
            )
    lines += ["  image %s: removed" % reference for reference in report.get("removed_images", [])]
    lines += ["  note: %s" % words for words in report.get("warnings", [])]
    return lines or ["Nothing is installed."]


class Meter:
    """Progress on a terminal, a few times a second."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._shown = 0.0

    def __call__(self, done: int, total: int, words: str) -> None:
        now = time.monotonic()
        if now - self._shown > 0.2 or done == total:
            self._shown = now
            end = "\n" if done == total else ""
            self._stream.write("\r%s: %d %% of %.1f MB%s" % (words, 100 * done // max(1, total), total / 1e6, end))
            self._stream.flush()


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the command line; the exit code."""
    if sys.version_info < OLDEST_PYTHON:
        sys.stderr.write("Python 3.8 or newer is needed.\n")
        return USAGE
    given = make_parser().parse_args(arguments)
    shown = sys.stderr.isatty() and not given.json
    try:
        docker = Docker(given.docker)
        report = perform(
            options_from(given),
            docker,
            Meter(sys.stderr) if shown else None,
            (lambda line: sys.stderr.write(line + "\n")) if shown else None,
        )
    except InstallProblem as problem:
        report = {
            "action": given.action,
            "error": {"code": problem.code, "message": problem.message, "next_step": problem.next_step},
            "exit_code": problem.exit_code,
        }
        if not given.json:
            sys.stderr.write("%s %s\n" % (problem.message, problem.next_step))
            return problem.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; run the same command again to go on.\n")
        return INTERRUPTED
    except OSError as failure:
        sys.stderr.write("%s: %s\n" % (failure.filename or "The machine says", failure.strerror))
        return SOME_FAILED
    sys.stdout.write((json.dumps(report) if given.json else "\n".join(describe(report))) + "\n")
    return int(report["exit_code"])
