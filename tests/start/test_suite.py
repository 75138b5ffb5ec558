"""The order, environment and summary of `./curfew test`."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from launcher import suite
from launcher.console import Failure
from tests import conftest
from tests.personas import Persona


@pytest.mark.parametrize(
    ("line", "counts", "seconds"),
    [
        ("====== 3 passed in 0.12s ======", {"passed": 3}, 0.12),
        (
            "= 1 failed, 12 passed, 2 skipped, 4 deselected, 2 warnings in 301.22s (0:05:01) =",
            {"failed": 1, "passed": 12, "skipped": 2, "deselected": 4, "warning": 2},
            301.22,
        ),
        ("\x1b[31m==== \x1b[1m2 errors\x1b[0m in 1.00s ====\x1b[0m", {"error": 2}, 1.0),
        ("5 passed in 0.5s", {"passed": 5}, 0.5),
        ("==== no tests ran in 0.01s ====", {}, 0.01),
    ],
)
def test_pytests_closing_line_is_understood(line: str, counts: dict[str, int], seconds: float) -> None:
    assert suite.closing_counts(line) == (Counter(counts), seconds)


@pytest.mark.parametrize(
    "line", ["", "3 passed", "tests/x.py ..... [100%]", "==== FAILURES ====", "took 3 passes in 2s"]
)
def test_other_lines_are_not_taken_for_it(line: str) -> None:
    assert suite.closing_counts(line) is None


def test_the_sum_has_pytests_own_form() -> None:
    line = suite.closing_line(Counter(passed=7, failed=1, warning=1, error=2), 12.345)
    assert line.strip("=") == " 1 failed, 7 passed, 1 warning, 2 errors in 12.35s "
    assert len(line) == 80
    counts, seconds = suite.closing_counts(line) or (None, None)
    assert counts == Counter(passed=7, failed=1, warning=1, error=2)
    assert seconds == pytest.approx(12.345, abs=0.01)


def test_steps_run_in_their_own_order() -> None:
    assert suite.chosen_steps(None) == ("lint", "unit", "pg", "e2e", "alone")
    assert suite.chosen_steps("e2e, lint") == ("lint", "e2e")


@pytest.mark.parametrize("only", ["lint,unti", "x", ","])
def test_an_unknown_step_is_refused(only: str) -> None:
    with pytest.raises(Failure, match="choose from lint, unit, pg, e2e, alone"):
        suite.chosen_steps(only)


def test_tests_never_see_real_servers_or_clouds() -> None:
    given = {
        "PATH": "/bin",
        "HOME": "/root",
        "CI": "true",
        "DOCKER_HOST": "unix:///x",
        "DATABASE_URL": "postgres://prod",
        "REDIS_URL": "redis://prod",
        "CURFEW_SECRET_KEY": "real",
        "AWS_ACCESS_KEY_ID": "AKIA",
        "AWS_PROFILE": "prod",
        "AZURE_CLIENT_SECRET": "s",
        "GOOGLE_APPLICATION_CREDENTIALS": "/f",
        "KUBECONFIG": "/k",
        "DJANGO_SETTINGS_MODULE": "other",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    assert set(suite.clean_environment(given)) == {"PATH", "HOME", "CI", "DOCKER_HOST"}


def quick_suite(*pytest_arguments: str) -> suite.Suite:
    return suite.Suite(Path(sys.executable), {"PATH": "/usr/bin:/bin"}, pytest_arguments)


def test_one_failed_check_fails_the_run_and_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    run = quick_suite()
    run.check("lint", "good", ["-c", "print('fine')"])
    run.check("lint", "bad", ["-c", "raise SystemExit(3)"])
    run.skip("pg", "servers", "not installed: postgres")
    assert run.summary() == 1
    lines = capfd.readouterr().out.splitlines()
    assert [(outcome.name, outcome.word) for outcome in run.outcomes] == [
        ("good", "ok"),
        ("bad", "FAILED"),
        ("servers", "skipped"),
    ]
    assert lines[-1] == "FAILED: bad"


def test_a_skipped_step_does_not_fail_the_run() -> None:
    run = quick_suite()
    run.skip("e2e", "browser", "not installed: chromium")
    assert run.summary() == 0


def test_the_last_line_is_pytests_and_a_failing_test_fails_the_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text("def test_a(): pass\ndef test_b(): assert False\n")
    run = quick_suite(str(tmp_path), "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:django")
    run.pytest("unit", "pytest", "not e2e", jobs=0)
    assert run.summary() == 1
    counts, _ = suite.closing_counts(capfd.readouterr().out.splitlines()[-1]) or (None, None)
    assert counts == Counter(passed=1, failed=1)


def test_what_a_killed_test_left_behind_does_not_hold_up_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import subprocess, sys\ndef test_a(capfd):\n    with capfd.disabled(): subprocess.Popen(['sleep', '30'])\n"
    )
    monkeypatch.setattr(suite, "LAST_WORDS_SECONDS", 0.5)
    ran = quick_suite(str(tmp_path), "-c", "/dev/null", "-p", "no:cacheprovider", "-p", "no:django")
    began = time.monotonic()
    ran.pytest("unit", "it", "not e2e", jobs=0)
    assert time.monotonic() - began < 25
    assert ran.summary() == 0
    assert " 1 passed in " in capsys.readouterr().out


def test_lint_runs_beside_the_tests_and_is_named_first(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    linted = Event()
    run = quick_suite()

    def lint() -> None:
        run.check("lint", "bad", ["-c", "print('line 1 is bad'); raise SystemExit(1)"])
        linted.set()

    def tests(step: str, name: str, marker: str) -> None:
        assert linted.wait(30), "lint waits for the tests"
        run.outcomes.append(suite.Outcome(step, name))

    monkeypatch.setattr(run, "lint", lint)
    monkeypatch.setattr(run, "pytest", tests)
    run.run(["lint", "unit"])
    assert [outcome.step for outcome in run.outcomes] == ["lint", "unit"]
    assert run.summary() == 1
    assert "line 1 is bad" in capfd.readouterr().out


def item(name: str, *, file: str = "test_a.py", marks: tuple[str, ...] = (), fixtures: tuple[str, ...] = ()) -> Any:
    return SimpleNamespace(
        name=name,
        path=Path(file),
        fixturenames=["_plain_settings", *fixtures],
        cls=None,
        get_closest_marker=lambda wanted: wanted if wanted in marks else None,
    )


def test_files_with_slow_tests_come_first_and_whole() -> None:
    quick, before, slow = item("quick"), item("before", file="test_b.py"), item("s", file="test_b.py", marks=("slow",))
    items, config = [quick, before, slow], Mock(spec=pytest.Config)
    conftest.pytest_collection_modifyitems(config, items)
    assert items == [before, slow, quick]


@pytest.mark.parametrize(
    ("expression", "left_out"),
    [
        ("e2e and not alone", ["test_pure.py"]),
        ("alone", ["test_pure.py", "test_pages.py"]),
        ("not e2e and not alone", []),
    ],
)
def test_a_run_of_one_marker_loads_only_files_that_name_it(
    tmp_path: Path, expression: str, left_out: list[str]
) -> None:
    texts = {
        "test_pure.py": "",
        "test_pages.py": "pytest.mark.e2e",
        "test_both.py": "mark.e2e mark.alone",
        "data.py": "",
    }
    config: Any = SimpleNamespace(option=SimpleNamespace(markexpr=expression))
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    assert [name for name in texts if conftest.pytest_ignore_collect(tmp_path / name, config)] == left_out


def test_on_postgresql_only_what_uses_the_database_runs_again(monkeypatch: pytest.MonkeyPatch) -> None:
    pure = [item("parses"), item("starts_a_process", fixtures=("tmp_path",), marks=("integration",))]
    kept = [item("by_mark", marks=("django_db",)), item("by_fixture", fixtures=("db",)), item("pg", marks=("pg",))]
    left_out: list[Any] = []
    hook = SimpleNamespace(
        pytest_deselected=lambda items: left_out.extend(items)  # noqa: PLW0108 - called by keyword
    )
    config: Any = SimpleNamespace(hook=hook)
    for vendor, run, again in (("sqlite", [*pure, *kept], []), ("postgresql", kept, pure)):
        monkeypatch.setattr(conftest, "connection", SimpleNamespace(vendor=vendor))
        items = [*pure, *kept]
        conftest.pytest_collection_modifyitems(config, items)
        assert (items, left_out) == (run, again)


def test_the_rule_knows_real_tests(request: pytest.FixtureRequest) -> None:
    assert not conftest.uses_the_database(request.node)


def test_the_rule_knows_real_tests_that_have_a_person(request: pytest.FixtureRequest, alice: Persona) -> None:
    assert conftest.uses_the_database(request.node)
