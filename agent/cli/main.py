"""`python -m agent cli`: submit, ps, logs, cancel, wake, sleep and connect from a shell, over the public API.

Address and key come from `--url` and `--key`, or from CURFEW_URL and CURFEW_API_KEY. Exit codes: 0 done, 1 refused or
failed, 2 wrong use, 3 the platform does not answer; `submit --wait` ends with the code of the task.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote, urlencode

from agent import __version__
from agent.cli import ssh
from agent.transport import BadAddress, Endpoint, Reply, Transport, Unreachable, environment

FINAL = {"succeeded", "failed", "cancelled"}
PAGE = 1000


class Refused(Exception):
    """The platform said no; the text is its reason."""


class Platform:
    """The public API with a key."""

    def __init__(self, url: str, key: str, *, ca_file: str = "", allow_http: bool = False) -> None:
        endpoint = Endpoint(url, ca_file=ca_file, allow_http=allow_http)
        self._transport = Transport(endpoint, lambda: key, scheme="Api-Key")

    def call(self, method: str, path: str, content: Any = None, **headers: str) -> Any:
        """The answer's JSON. Raises Refused with the reason, Unreachable."""
        reply = self._transport.request(method, path, content=content, headers=headers)
        if not reply.ok:
            raise Refused(_reason(reply))
        return reply.json() if reply.body.startswith(b"{") else json.loads(reply.body or b"null")


def _reason(reply: Reply) -> str:
    said = reply.json()
    fields = "; ".join(f"{name}: {' '.join(words)}" for name, words in (said.get("errors") or {}).items())
    return fields or str(said.get("detail") or f"answer {reply.status}")


def _pairs(given: Sequence[str]) -> dict[str, str]:
    """NAME=value; NAME alone takes the value of the environment."""
    return {
        name: value if equals else os.environ.get(name, "") for name, equals, value in (g.partition("=") for g in given)
    }


def submit(platform: Platform, options: argparse.Namespace) -> int:
    fields = {
        "name": options.name or options.image.rsplit("/", 1)[-1].split(":")[0],
        "image": options.image,
        "command": options.words,
        "cpu": int(options.cpu * 1000),
        "memory": options.memory,
        "gpus": options.gpus,
        "environment": _pairs(options.env),
        "secrets": _pairs(options.secret),
        "labels": _pairs(options.label),
        "timeout_seconds": options.timeout,
        "retries": options.retries,
        "needs": options.needs,
    }
    headers = {"Idempotency-Key": options.key_once} if options.key_once else {}
    task = platform.call("POST", "/api/tasks", fields, **headers)
    sys.stdout.write(f"{task['id']}\n")
    return follow(platform, task["id"], quiet=options.quiet) if options.wait else 0


def follow(platform: Platform, task_id: str, *, quiet: bool = False) -> int:
    """Show the log until the task ends; its exit code, 1 when it has none."""
    at = {"stdout": 0, "stderr": 0}
    while True:
        task = platform.call("GET", f"/api/tasks/{quote(task_id)}")
        if not quiet and task["attempts"]:
            _show_new(platform, task_id, at)
        if task["status"] in FINAL:
            sys.stderr.write(f"{task['status']}: {task['reason']}\n")
            code = task["exit_code"]
            return int(code) if task["status"] != "cancelled" and code is not None and 0 <= code < 256 else 1
        time.sleep(1)


def _show_new(platform: Platform, task_id: str, at: dict[str, int]) -> None:
    for stream, out in (("stdout", sys.stdout.buffer), ("stderr", sys.stderr.buffer)):
        while True:
            query = urlencode({"stream": stream, "offset": at[stream]})
            reply = platform._transport.request("GET", f"/api/tasks/{quote(task_id)}/logs?{query}")
            if not reply.ok or not reply.body:
                break
            out.write(reply.body)
            out.flush()
            at[stream] += len(reply.body)


def logs(platform: Platform, options: argparse.Namespace) -> int:
    if options.follow:
        return follow(platform, options.task)
    if options.search:
        query = urlencode({"search": options.search, "regex": str(options.regex).lower(), "context": options.context})
        found = platform.call("GET", f"/api/tasks/{quote(options.task)}/logs?{query}")
        for hit in found["hits"]:
            for line in [*hit["before"], hit["line"], *hit["after"]]:
                sys.stdout.write(f"{line['n'] + 1}{':' if line is hit['line'] else '-'}{line['text']}\n")
        return 0 if found["count"] else 1
    _show_new(platform, options.task, {"stdout": 0, "stderr": 0})
    return 0


def ps(platform: Platform, options: argparse.Namespace) -> int:
    query = urlencode({"page_size": options.most, **({} if options.all else {"status": "active"})})
    rows = platform.call("GET", f"/api/tasks?{query}")["results"]
    if options.json:
        sys.stdout.write(json.dumps(rows, indent=1) + "\n")
        return 0
    for row in rows:
        worker = (row["worker"] or {}).get("name", "")
        sys.stdout.write(f"{row['id']}  {row['status']:<10} {row['name'][:30]:<30} {worker:<16} {row['reason'][:60]}\n")
    return 0


def cancel(platform: Platform, options: argparse.Namespace) -> int:
    platform.call("POST", f"/api/tasks/{quote(options.task)}/cancel", {})
    return 0


def order(platform: Platform, options: argparse.Namespace) -> int:
    """Wake or put to sleep anything that sleeps."""
    body = {"for": options.duration} if options.duration else {}
    path = f"/api/hibernation/{quote(options.kind)}/{quote(options.id)}/{options.verb}"
    platform.call("POST", path, body)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="curfew-cli", description=(__doc__ or "").split("\n\n")[1])
    parser.add_argument("--version", action="version", version=f"curfew-cli {__version__}")
    parser.add_argument("--url", default=environment("URL"))
    parser.add_argument("--key", default=environment("API_KEY"))
    parser.add_argument("--ca-file", default=environment("CA_FILE"))
    parser.add_argument("--allow-http", action="store_true", default=environment("ALLOW_HTTP") == "1")
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("submit", help="submit a task")
    one.add_argument("image")
    one.add_argument("words", nargs="*", metavar="WORD", help="the command; put -- before it")
    one.add_argument("--name", default="")
    one.add_argument("--cpu", type=float, default=1, help="cores")
    one.add_argument("--memory", type=int, default=512, help="MiB")
    one.add_argument("--gpus", type=int, default=0)
    one.add_argument("--env", action="append", default=[], metavar="NAME[=VALUE]")
    one.add_argument("--secret", action="append", default=[], metavar="NAME[=VALUE]")
    one.add_argument("--label", action="append", default=[], metavar="KEY=VALUE")
    one.add_argument("--timeout", type=int, default=3600, help="seconds")
    one.add_argument("--retries", type=int, default=0)
    one.add_argument("--needs", action="append", default=[], metavar="TASK")
    one.add_argument("--key-once", default="", help="idempotency key: the same key submits once")
    one.add_argument("--wait", action="store_true", help="show the log and end with the task's code")
    one.add_argument("--quiet", action="store_true")
    one.set_defaults(run=submit)
    many = verbs.add_parser("ps", help="list tasks")
    many.add_argument("--all", action="store_true")
    many.add_argument("--most", type=int, default=50)
    many.add_argument("--json", action="store_true")
    many.set_defaults(run=ps)
    log = verbs.add_parser("logs", help="show or search a log")
    log.add_argument("task")
    log.add_argument("-f", "--follow", action="store_true")
    log.add_argument("--search", default="")
    log.add_argument("--regex", action="store_true")
    log.add_argument("--context", type=int, default=2)
    log.set_defaults(run=logs)
    end = verbs.add_parser("cancel", help="ask a task to stop")
    end.add_argument("task")
    end.set_defaults(run=cancel)
    for verb in ("wake", "sleep"):
        parts = verbs.add_parser(verb, help=f"{verb} something that sleeps")
        parts.add_argument("kind", help="cloud_node, cluster, gpu_machine")
        parts.add_argument("id")
        parts.add_argument("--for", dest="duration", default="", help="1h, 4h, until_monday or a time")
        parts.set_defaults(run=order)
    ssh.add_to(verbs)
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.run is ssh.config:
        return ssh.config(None, options)
    if not options.url or not options.key:
        parser.error("say where and who: --url and --key, or CURFEW_URL and CURFEW_API_KEY")
    try:
        platform = Platform(options.url, options.key, ca_file=options.ca_file, allow_http=options.allow_http)
        return int(options.run(platform, options))
    except BadAddress as bad:
        parser.error(str(bad))
    except Refused as refused:
        sys.stderr.write(f"{refused}\n")
        return 1
    except Unreachable as lost:
        sys.stderr.write(f"The platform does not answer: {lost}\n")
        return 3
