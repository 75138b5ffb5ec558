"""What is installed, when, and what is said when it cannot be."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from launcher import cli, paths, setup, system
from launcher.console import Failure, SetupLog, step, tail


@pytest.fixture
def log(tmp_path: Path) -> SetupLog:
    return SetupLog(tmp_path / "setup.log")


class Commands:
    """Stands for SetupLog: remembers what would have been run."""

    def __init__(self) -> None:
        self.run_lines: list[str] = []

    def run(self, command: list[object], **how: object) -> None:
        self.run_lines.append(" ".join(str(word) for word in command))


def test_requirements_files_include_each_other_in_this_order() -> None:
    for earlier, later in zip(paths.REQUIREMENTS, paths.REQUIREMENTS[1:], strict=False):
        assert f"-r {earlier}\n" in (paths.ROOT / later).read_text()


def test_installing_the_larger_set_also_covers_the_smaller_ones() -> None:
    full = setup.wanted_packages("requirements-dev.txt")
    assert list(full) == list(paths.REQUIREMENTS)
    assert setup.wanted_packages("requirements.txt").items() <= full.items()


def test_a_changed_file_changes_the_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = setup.digest(("a", "b"), tmp_path)
    assert setup.digest(("a", "b"), tmp_path) == before
    (tmp_path / "b").write_text("1")
    assert setup.digest(("a", "b"), tmp_path) != before


def test_packages_are_installed_once_until_the_list_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stamp: dict[str, str] = {}
    monkeypatch.setattr(setup, "read_stamp", lambda: dict(stamp))
    monkeypatch.setattr(setup, "write_stamp", stamp.update)
    commands = Commands()
    setup.ensure_packages("requirements-demo.txt", commands)
    setup.ensure_packages("requirements-demo.txt", commands)
    setup.ensure_packages("requirements.txt", commands)
    assert len(commands.run_lines) == 1
    assert commands.run_lines[0].endswith("install -r requirements-demo.txt")
    stamp["requirements.txt"] = "older"
    setup.ensure_packages("requirements.txt", commands)
    assert commands.run_lines[1].endswith("install -r requirements.txt")
    assert "Installing Python packages (requirements-demo.txt) ... " in capsys.readouterr().out


def test_front_end_is_built_once_until_the_lock_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp: dict[str, str] = {}
    vendor = tmp_path / "static" / "vendor"
    vendor.mkdir(parents=True)
    (vendor / "file.js").touch()
    (tmp_path / "package-lock.json").write_text("{}")
    monkeypatch.setattr(setup, "read_stamp", lambda: dict(stamp))
    monkeypatch.setattr(setup, "write_stamp", stamp.update)
    monkeypatch.setattr(setup, "frontend_fingerprint", lambda: setup.digest(setup.FRONTEND_INPUTS, tmp_path))
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(setup, "npm_command", lambda: ["npm"])
    commands = Commands()
    setup.ensure_frontend(commands)
    setup.ensure_frontend(commands)
    assert commands.run_lines == [
        "npm ci --ignore-scripts --no-audit --no-fund --include=dev",
        f"{paths.VENV_PYTHON} -m core.frontend",
    ]
    (tmp_path / "package-lock.json").write_text('{"changed": 1}')
    setup.ensure_frontend(commands)
    assert len(commands.run_lines) == 4
    (vendor / "file.js").unlink()
    setup.ensure_frontend(commands)
    assert len(commands.run_lines) == 6, "an emptied static/vendor is filled again"


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ({"npm": "10.8.2", "node": "v22.1.0"}, True),
        ({"npm": "10.8.2", "node": "v16.20.0"}, False),
        ({"npm": "6.14.0", "node": "v22.1.0"}, False),
        ({"npm": "10.8.2"}, False),
        ({}, False),
    ],
)
def test_an_npm_that_is_too_old_counts_as_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], expected: bool
) -> None:
    for name, version in versions.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = setup.npm_command()
    assert found == ([str(tmp_path / "npm")] if expected else None)


def test_without_ensurepip_and_pip_the_debian_package_is_named(monkeypatch: pytest.MonkeyPatch, log: SetupLog) -> None:
    monkeypatch.setattr(setup, "venv_works", lambda: False)
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(setup.shutil, "rmtree", lambda *a, **k: None)
    with pytest.raises(Failure, match=rf"sudo apt install python3\.{sys.version_info[1]}-venv"):
        setup.ensure_venv(log)


def test_without_ensurepip_a_pip_outside_fills_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "venv_works", lambda: False)
    monkeypatch.setattr(setup.importlib.util, "find_spec", lambda name: object() if name == "pip" else None)
    monkeypatch.setattr(setup.shutil, "rmtree", lambda *a, **k: None)
    commands = Commands()
    setup.ensure_venv(commands)
    assert "-m venv --without-pip" in commands.run_lines[0]
    assert commands.run_lines[1].endswith(f"--python {paths.VENV_PYTHON} install pip")


def test_a_failed_command_shows_the_logs_tail_and_the_hint(tmp_path: Path, log: SetupLog) -> None:
    script = "print('\\n'.join(f'line {n}' for n in range(100))); raise SystemExit(7)"
    with pytest.raises(Failure) as caught:
        log.run([sys.executable, "-c", script], cwd=tmp_path, hint="Do this instead.")
    text = str(caught.value)
    assert "ended with code 7" in text
    assert "    line 99" in text
    assert "    line 50\n" not in text
    assert text.endswith("Do this instead.")
    assert "line 0\n" in log.path.read_text()


def test_a_program_that_does_not_exist_is_a_failure_too(tmp_path: Path, log: SetupLog) -> None:
    with pytest.raises(Failure, match="code 127"):
        log.run([tmp_path / "nothing-here"], cwd=tmp_path)


def test_a_step_is_one_line_with_its_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with step("Doing"):
        pass
    with pytest.raises(ValueError, match="no"), step("Failing"):
        raise ValueError("no")
    assert capsys.readouterr().out == "  Doing ... 0.0 s\n  Failing ... failed\n"


def test_tail_of_a_missing_file_is_empty(tmp_path: Path) -> None:
    assert tail(tmp_path / "none") == ""


def test_new_data_folders_are_private_and_old_ones_keep_their_mode(tmp_path: Path) -> None:
    made = paths.make_private_folder(tmp_path / ".data" / "demo")
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (made, made.parent)] == [0o700, 0o700]
    made.chmod(0o750)
    assert stat.S_IMODE(paths.make_private_folder(made).stat().st_mode) == 0o750


def test_default_data_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CURFEW_DATA", raising=False)
    assert paths.data_folder(None) == paths.ROOT / ".data" / "main"
    assert paths.data_folder(None, demo=True) == paths.ROOT / ".data" / "demo"
    monkeypatch.setenv("CURFEW_DATA", "/srv/curfew")
    assert paths.data_folder(None) == Path("/srv/curfew")
    assert paths.data_folder("~/there") == Path("~/there").expanduser()


def test_missing_tools_are_installed_by_root_only(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed: list[list[str]] = []
    restic = next(tool for tool in system.TOOLS if tool.program == "restic")
    monkeypatch.setattr(system, "missing_tools", lambda: [] if installed else [restic])
    monkeypatch.setattr(system, "apt_install", lambda packages, log: installed.append(packages))
    monkeypatch.setattr(system.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert system.ensure_tools(SetupLog(Path("unused"))) == [restic]
    assert "tests with real backups will be skipped" in capsys.readouterr().out
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert system.ensure_tools(SetupLog(Path("unused")), allowed=False) == [restic]
    assert installed == []
    assert system.ensure_tools(SetupLog(Path("unused"))) == []
    assert installed == [["restic"]]


@pytest.mark.parametrize("port", ["0", "65536", "eight", "-1", ""])
def test_a_port_that_is_none_is_refused(port: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["up", "--port", port])
    assert caught.value.code == 2
    assert "is not a port" in capsys.readouterr().err


def test_the_parts_need_the_servers(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("REDIS_URL", raising=False)
    assert cli.main(["worker"]) == 1
    assert "set DATABASE_URL and REDIS_URL" in capsys.readouterr().err


def test_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["up", "--prot", "8000"])
    assert "unrecognized arguments: --prot" in capsys.readouterr().err


def test_all_interfaces_may_be_addressed_by_the_machines_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.socket, "gethostname", lambda: "lab")
    monkeypatch.setattr(cli.socket, "gethostbyname_ex", lambda name: (name, [], ["10.0.0.7"]))
    assert cli.reachable_hosts("0.0.0.0") == ["localhost", "127.0.0.1", "[::1]", "lab", "10.0.0.7"]
    assert cli.reachable_hosts("10.0.0.9") == ["localhost", "127.0.0.1", "[::1]", "10.0.0.9"]
