"""The commands of `./curfew`: what they promise on the outside, and in which order the steps run."""

from __future__ import annotations

import argparse
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from launcher import keys, paths, runlock, setup
from launcher.console import Failure, SetupLog, say

QUEUES = "fast,cloud,sweep"
EXAMPLES = """\
  ./curfew demo            try Curfew: a sandbox cloud, an organization and thirty days of history
  ./curfew up              an empty Curfew of your own
  ./curfew test            everything that is checked before a change goes in
  ./curfew doctor          what is wrong with this machine, and how to put it right
  ./curfew manage ARGS     Django's manage.py with the settings of a data folder

With DATABASE_URL and REDIS_URL set, the parts run apart:
  ./curfew web | worker | beat
"""


def port_number(text: str) -> int:
    """A TCP port, or argparse's clear complaint."""
    if not text.isdigit() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; choose 1 to 65535")
    return int(text)


def build_parser() -> argparse.ArgumentParser:
    """Every command with its options."""
    parser = argparse.ArgumentParser(
        prog="./curfew",
        description="Puts idle cloud compute to sleep and shows what that saves.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    folder = argparse.ArgumentParser(add_help=False)
    folder.add_argument("--data", metavar="DIR", help="data folder (default .data/main, for demo .data/demo)")
    serving = argparse.ArgumentParser(add_help=False)
    serving.add_argument("--port", type=port_number, default=paths.DEFAULT_PORT)
    serving.add_argument("--host", default=paths.DEFAULT_HOST, help="0.0.0.0 to be reached from other machines")
    for name, text in (("demo", "start with a sandbox cloud and example data"), ("up", "start, empty at first")):
        command = commands.add_parser(name, parents=[folder, serving], help=text)
        command.add_argument("--no-browser", action="store_true", help="do not open the browser")
    test = commands.add_parser("test", help="run every check", add_help=True)
    test.add_argument("--only", metavar="STEPS", help="some of lint,unit,pg,e2e,alone, separated by commas")
    test.add_argument("--no-apt", action="store_true", help="never install system packages")
    doctor = commands.add_parser("doctor", parents=[folder], help="examine this machine")
    doctor.add_argument("--json", action="store_true")
    doctor.add_argument("--port", type=port_number, default=paths.DEFAULT_PORT)
    manage = commands.add_parser("manage", parents=[folder], help="Django's manage.py")
    manage.add_argument("arguments", nargs=argparse.REMAINDER)
    commands.add_parser("web", parents=[folder, serving], help="web server only (scaled out)")
    worker = commands.add_parser("worker", parents=[folder], help="Celery worker only (scaled out)")
    worker.add_argument("--queues", default=QUEUES)
    worker.add_argument("--concurrency", type=int, default=8)
    commands.add_parser("beat", parents=[folder], help="Celery beat only (scaled out, exactly one)")
    return parser


def main(argv: Sequence[str]) -> int:
    """Run one command; the exit code says whether it went well."""
    parser = build_parser()
    options, rest = parser.parse_known_args(argv)
    if rest and options.command != "test":
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest
    handlers: dict[str, Callable[[argparse.Namespace], int]] = {
        "demo": start,
        "up": start,
        "test": test,
        "doctor": doctor,
        "manage": manage,
        "web": web,
        "worker": worker,
        "beat": beat,
    }
    try:
        return handlers[options.command](options)
    except Failure as failure:
        sys.stderr.write(f"\n{failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped.\n")
        return 130


def setup_log(data: Path) -> SetupLog:
    """The log of this data folder's set-up; makes the folder (0700) when it is new."""
    try:
        paths.make_private_folder(data)
        logs = data / "logs"
        logs.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise Failure(f"The data folder {data} cannot be made: {error}. Choose another one with --data.") from error
    return SetupLog(logs / "setup.log")


def scaled_out() -> bool:
    """Whether the environment names the servers of a scaled-out installation."""
    return bool(os.environ.get("DATABASE_URL") and os.environ.get("REDIS_URL"))


def reachable_hosts(host: str) -> list[str]:
    """The names under which a server that listens on `host` may be addressed."""
    names = ["localhost", "127.0.0.1", "[::1]"]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        names.append(socket.gethostname())
        try:
            names += socket.gethostbyname_ex(socket.gethostname())[2]
        except OSError:
            say("  This machine's addresses are unknown; set CURFEW_ALLOWED_HOSTS to the name people use")
    else:
        names.append(f"[{host}]" if ":" in host else host)
    return list(dict.fromkeys(names))


def settings_environment(
    data: Path, *, port: int = paths.DEFAULT_PORT, host: str = paths.DEFAULT_HOST, demo: bool = False
) -> dict[str, str]:
    """Make missing keys and return the environment that tells the settings where everything is."""
    extra = {"CURFEW_BASE_URL": f"http://localhost:{port}"}
    if demo:
        extra["CURFEW_SANDBOX_AWS_ENDPOINT"] = f"http://127.0.0.1:{runlock.bind_only('127.0.0.1', 0)}"
    added = keys.ensure(data, defaults=extra)
    if added:
        say(f"  Wrote {data / keys.FILE_NAME} (keys and settings, readable by you only)")
    environment = {**os.environ, "CURFEW_DATA": str(data)}
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # one process with many threads; keeps its memory small
    # a copy of the source serves its static files as they lie; the container image has collected them
    environment.setdefault("CURFEW_STATIC_FROM_SOURCE", "true")
    address = keys.base_url_for_run(data, port=port)
    if address:
        environment["CURFEW_BASE_URL"] = address
    if host != paths.DEFAULT_HOST and "CURFEW_ALLOWED_HOSTS" not in {**keys.read(data), **os.environ}:
        environment["CURFEW_ALLOWED_HOSTS"] = ",".join(reachable_hosts(host))
    return environment


def hand_over(python: Path, arguments: Sequence[str], environment: dict[str, str]) -> int:
    """Become the Django process: same process id, so Ctrl-C and supervisors reach it directly."""
    os.chdir(paths.ROOT)
    sys.stdout.flush()
    os.execve(python, [str(python), *arguments], environment)


def start(options: argparse.Namespace) -> int:
    """`demo` and `up`: prepare what is missing, then serve."""
    demo = options.command == "demo"
    data = paths.data_folder(options.data, demo=demo)
    refuse_if_taken(data, options.host, options.port)
    log = setup_log(data)
    say(f"Curfew {'demo' if demo else ''}".rstrip() + f", data in {data}")
    python = setup.prepare("requirements-demo.txt" if demo else "requirements.txt", log)
    environment = settings_environment(data, port=options.port, host=options.host, demo=demo)
    arguments = ["manage.py", "up", "--port", str(options.port), "--host", options.host]
    if demo:
        arguments.append("--demo")
    if options.no_browser:
        arguments.append("--no-browser")
    return hand_over(python, arguments, environment)


def refuse_if_taken(data: Path, host: str, port: int) -> None:
    """Say at once, before minutes of set-up, that the folder or the port is in use."""
    owner = runlock.owner_of(data)
    if owner is not None:
        raise Failure(str(runlock.FolderInUse(data, owner)))
    try:
        runlock.bind(host, port).close()
    except runlock.PortTaken as taken:
        raise Failure(str(taken)) from taken
    except OSError as error:
        raise Failure(f"Cannot listen on {host} port {port}: {error.strerror or error}") from error


def test(options: argparse.Namespace) -> int:
    """`test`: every check; see launcher.suite."""
    from launcher import suite

    return suite.run(only=options.only, pytest_arguments=options.rest, apt=not options.no_apt)


def doctor(options: argparse.Namespace) -> int:
    """`doctor`: examine without changing anything; works before the first start too."""
    data = paths.data_folder(options.data)
    if options.data is None and not data.exists() and (demo := paths.data_folder(None, demo=True)).exists():
        data = demo
    python = paths.VENV_PYTHON if setup.venv_works() else Path(sys.executable)
    arguments = ["-m", "core.doctor", "--data", str(data), "--port", str(options.port)]
    return hand_over(python, arguments + (["--json"] if options.json else []), dict(os.environ))


def manage(options: argparse.Namespace) -> int:
    """`manage`: manage.py with this data folder's settings."""
    data = paths.data_folder(options.data)
    python = setup.prepare("requirements.txt", setup_log(data))
    return hand_over(python, ["manage.py", *options.arguments], settings_environment(data))


def part(options: argparse.Namespace, arguments: Sequence[str]) -> int:
    """One part of a scaled-out installation."""
    if not scaled_out():
        raise Failure(
            "The parts run apart only with PostgreSQL and Redis: set DATABASE_URL and REDIS_URL.\n"
            "For everything in one process use ./curfew up"
        )
    data = paths.data_folder(options.data)
    python = setup.prepare("requirements.txt", setup_log(data))
    port, host = getattr(options, "port", paths.DEFAULT_PORT), getattr(options, "host", paths.DEFAULT_HOST)
    return hand_over(python, arguments, settings_environment(data, port=port, host=host))


def web(options: argparse.Namespace) -> int:
    """`web`: the web server alone."""
    arguments = ["manage.py", "up", "--port", str(options.port), "--host", options.host, "--serve-only", "--no-browser"]
    return part(options, arguments)


def worker(options: argparse.Namespace) -> int:
    """`worker`: Celery on some or all queues."""
    return part(
        options,
        [
            "-m",
            "celery",
            "-A",
            "config",
            "worker",
            "--loglevel",
            "WARNING",
            "--pool",
            "threads",
            "--queues",
            options.queues,
            "--concurrency",
            str(options.concurrency),
        ],
    )


def beat(options: argparse.Namespace) -> int:
    """`beat`: the clock of the sweeps; exactly one per installation."""
    return part(options, ["-m", "celery", "-A", "config", "beat", "--loglevel", "WARNING"])
