"""`./curfew test`: every check in one order, a summary, and pytest's closing line at the very end.

Steps: lint (ruff, mypy, import-linter, migrations, deployment checks), unit (unit and integration tests on SQLite,
embedded), pg (the same suite on PostgreSQL and Redis), e2e (a real browser, its own pytest run), alone (tests that
measure time, one after the other with the machine to themselves). Lint runs beside the first of the others. Tests run
in two processes more than there are cores, since the slow ones mostly wait.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from launcher import keys, paths, setup, system
from launcher.console import Failure, SetupLog, say

STEPS = ("lint", "unit", "pg", "e2e", "alone")
FAST_RUNS = "not e2e and not alone"
EMBEDDED_ONLY = ("tests/start/test_up.py", "tests/start/test_embedded.py")  # they start SQLite servers of their own
NO_TESTS_COLLECTED = 5
# A server that a killed test left behind holds the output open: it is not waited for.
LAST_WORDS_SECONDS = 10.0
# Two processes more than there are cores: slow tests wait for containers, leases and kills.
JOBS = min(8, (os.cpu_count() or 2) + 2)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_CLOSING = re.compile(r"^=* ?((?:\d+ [a-z]+(?:, )?)+|no tests ran) in ([\d.]+)s(?: \([\d:]+\))? ?=*$")
_COUNT = re.compile(r"(\d+) ([a-z]+)")
_PLURALS = {"errors": "error", "warnings": "warning"}
_ORDER = ("failed", "passed", "skipped", "deselected", "xfailed", "xpassed", "warning", "error")
_HIDDEN_FROM_TESTS = re.compile(
    r"^(CURFEW_(?!TEST_|HANDED_OVER|PYTHON)|DATABASE_URL|REDIS_URL|DJANGO_|AWS_|AZURE_|GOOGLE_|KUBECONFIG"
    r"|PYTHONDONTWRITEBYTECODE)"  # dozens of processes start: each would compile everything, and pytest every assertion
)


@dataclass
class Outcome:
    """How one check ended."""

    step: str
    name: str
    seconds: float = 0.0
    problem: str = ""
    skipped: str = ""
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def word(self) -> str:
        """ok, FAILED or skipped."""
        return "FAILED" if self.problem else "skipped" if self.skipped else "ok"


def closing_counts(line: str) -> tuple[Counter[str], float] | None:
    """The counts and seconds of pytest's last line; None for any other line."""
    match = _CLOSING.match(_ANSI.sub("", line).strip())
    if match is None:
        return None
    counts = Counter({_PLURALS.get(word, word): int(number) for number, word in _COUNT.findall(match.group(1))})
    return counts, float(match.group(2))


def closing_line(counts: Mapping[str, int], seconds: float) -> str:
    """The counts in pytest's own form."""
    parts = []
    for word in _ORDER:
        number = counts.get(word, 0)
        if number:
            parts.append(f"{number} {word}{'s' if number > 1 and word in ('warning', 'error') else ''}")
    return f" {', '.join(parts) or 'no tests ran'} in {seconds:.2f}s ".center(80, "=")


def _show(lines: Iterable[str], outcome: Outcome) -> None:
    """Print each line as it comes; the counts of the closing one are remembered."""
    for line in lines:
        sys.stdout.write(line)
        closing = closing_counts(line)
        if closing:
            outcome.counts = closing[0]


def chosen_steps(only: str | None) -> tuple[str, ...]:
    """The steps to run, in their fixed order; raises `Failure` for an unknown name."""
    if not only:
        return STEPS
    names = {name.strip() for name in only.split(",") if name.strip()}
    unknown = names - set(STEPS)
    if unknown or not names:
        raise Failure(f"Unknown step {', '.join(sorted(unknown)) or repr(only)}; choose from {', '.join(STEPS)}")
    return tuple(step for step in STEPS if step in names)


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would point tests at real settings, servers or clouds, or slow them down."""
    return {name: value for name, value in environ.items() if not _HIDDEN_FROM_TESTS.match(name)}


def test_environment(data: Path) -> dict[str, str]:
    """A throw-away data folder with fresh keys."""
    keys.ensure(data, defaults={"CURFEW_BASE_URL": "http://localhost:8000"}, environ={})
    return {**clean_environment(os.environ), "CURFEW_DATA": str(data), "PYTHONUNBUFFERED": "1"}


class Suite:
    """Runs the checks and remembers how each ended."""

    def __init__(self, python: Path, environment: Mapping[str, str], pytest_arguments: Sequence[str]) -> None:
        self.python = python
        self.environment = dict(environment)
        self.pytest_arguments = list(pytest_arguments)
        self.outcomes: list[Outcome] = []

    def check(self, step: str, name: str, arguments: Sequence[str], extra: Mapping[str, str] | None = None) -> None:
        """One command of the virtual environment; its output is shown at its end, since a pytest run may go on beside."""
        began = time.monotonic()
        done = subprocess.run(
            [self.python, *arguments],
            cwd=paths.ROOT,
            env={**self.environment, **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        self._title(name, done.stdout)
        problem = f"exit code {done.returncode}" if done.returncode else ""
        self.outcomes.append(Outcome(step, name, time.monotonic() - began, problem))

    def pytest(
        self,
        step: str,
        name: str,
        marker: str,
        extra: Mapping[str, str] | None = None,
        *,
        jobs: int = JOBS,
        share: str = "worksteal",
        skip: Sequence[str] = (),
    ) -> None:
        """One pytest run, shown as it comes; its closing line is remembered."""
        self._title(name)
        began = time.monotonic()
        outcome = Outcome(step, name)
        arguments = [
            "-m",
            "pytest",
            "-m",
            marker,
            *(["-n", str(jobs), "--dist", share] if jobs else ["-p", "no:xdist"]),
        ]
        arguments += [f"--ignore={path}" for path in skip]
        colour = ["--color=yes"] if sys.stdout.isatty() else []
        process = subprocess.Popen(
            [self.python, *arguments, *colour, *self.pytest_arguments],
            cwd=paths.ROOT,
            env={**self.environment, **(extra or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        showing = threading.Thread(target=_show, args=(process.stdout or (), outcome), daemon=True)
        showing.start()
        process.wait()
        showing.join(LAST_WORDS_SECONDS)
        sys.stdout.flush()
        outcome.seconds = time.monotonic() - began
        if process.returncode == NO_TESTS_COLLECTED and self.pytest_arguments:
            outcome.skipped = "no test matches"
        elif process.returncode:
            outcome.problem = f"exit code {process.returncode}"
        self.outcomes.append(outcome)

    def skip(self, step: str, name: str, reason: str) -> None:
        """Remember a step that this machine cannot run."""
        self.outcomes.append(Outcome(step, name, skipped=reason))

    def lint(self) -> None:
        """Style, types, layers, migrations, deployment checks."""
        production = {"CURFEW_BASE_URL": "https://curfew.example.com"}
        self.check("lint", "ruff check", ["-m", "ruff", "check", "."])
        self.check("lint", "ruff format", ["-m", "ruff", "format", "--check", "."])
        self.check("lint", "mypy", ["-m", "mypy"])
        self.check(
            "lint",
            "import-linter",
            ["-c", "from importlinter.cli import lint_imports_command as run; run(['--no-logo'])"],
        )
        self.check("lint", "makemigrations --check", ["manage.py", "makemigrations", "--check", "--dry-run"])
        self.check("lint", "check --deploy", ["manage.py", "check", "--deploy", "--fail-level", "WARNING"], production)

    def pg(self) -> None:
        """The suite on real PostgreSQL and Redis."""
        from tests import stack as servers

        lacking = servers.missing()
        if lacking:
            self.skip("pg", "pytest on PostgreSQL and Redis", f"not installed: {', '.join(lacking)}")
            return
        try:
            with servers.stack(servers.FOR_TESTS) as running:
                self.pytest(
                    "pg", "pytest on PostgreSQL and Redis", FAST_RUNS, running.environment(), skip=EMBEDDED_ONLY
                )
        except servers.StackUnavailable as reason:
            self.outcomes.append(Outcome("pg", "pytest on PostgreSQL and Redis", problem=str(reason)))

    def e2e(self) -> None:
        """Browser tests: each process has a browser and a server of its own, and takes whole files."""
        if system.find("chromium") is None:
            self.skip("e2e", "pytest in a browser", "not installed: chromium")
            return
        self.pytest("e2e", "pytest in a browser", "e2e and not alone", jobs=3, share="loadfile")

    def run(self, steps: Sequence[str]) -> None:
        """The steps in order, lint beside the others; a failure does not keep the others from running."""
        bodies: dict[str, Callable[[], None]] = {
            "unit": lambda: self.pytest("unit", "pytest on SQLite", FAST_RUNS),
            "pg": self.pg,
            "e2e": self.e2e,
            "alone": lambda: self.pytest("alone", "pytest of what measures time", "alone", jobs=0),
        }
        beside = threading.Thread(target=self.lint if "lint" in steps else lambda: None, daemon=True)
        beside.start()
        for step in steps:
            if step == "alone":
                beside.join()
            if step in bodies:
                bodies[step]()
        beside.join()
        self.outcomes.sort(key=lambda outcome: STEPS.index(outcome.step))

    def summary(self) -> int:
        """Print how each check ended and, last, the sum of the pytest runs in pytest's form; the exit code."""
        say("\n" + " summary ".center(80, "="))
        for outcome in self.outcomes:
            tests = ", ".join(f"{number} {word}" for word, number in outcome.counts.items())
            note = "; ".join(filter(None, [tests, outcome.problem, outcome.skipped]))
            say(f"{outcome.word:8} {outcome.step:5} {outcome.name:32} {outcome.seconds:6.1f} s  {note}".rstrip())
        failed = [outcome for outcome in self.outcomes if outcome.problem]
        if failed:
            say(f"FAILED: {', '.join(outcome.name for outcome in failed)}")
        total: Counter[str] = sum((outcome.counts for outcome in self.outcomes), Counter())
        if any(outcome.counts for outcome in self.outcomes):
            say(closing_line(total, sum(outcome.seconds for outcome in self.outcomes if outcome.counts)))
        return 1 if failed else 0

    @staticmethod
    def _title(name: str, text: str = "") -> None:
        say("\n" + f" {name} ".center(80, "-") + f"\n{text}".rstrip())


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A data folder that is gone after the run."""
    with tempfile.TemporaryDirectory(prefix="curfew-test-") as folder:
        yield Path(folder)


def run(*, only: str | None, pytest_arguments: Sequence[str], apt: bool) -> int:
    """Prepare the machine, run the chosen steps, print the summary; 0 when nothing failed."""
    steps = chosen_steps(only)
    logs = paths.make_private_folder(paths.ROOT / ".data" / "test" / "logs")
    log = SetupLog(logs / "setup.log")
    say("Curfew test: " + ", ".join(steps))
    if set(steps) - {"lint"}:
        system.ensure_tools(log, allowed=apt)
    python = setup.prepare("requirements-dev.txt", log)
    with scratch_folder() as data:
        suite = Suite(python, test_environment(data), pytest_arguments)
        suite.run(steps)
    return suite.summary()
