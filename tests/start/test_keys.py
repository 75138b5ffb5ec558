"""The settings file of a data folder."""

from __future__ import annotations

import base64
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.encryption import KeyRing
from launcher import keys
from launcher.console import Failure

DEFAULTS = {"CURFEW_BASE_URL": "http://localhost:8000"}


def ensure(data: Path, **environ: str) -> list[str]:
    return keys.ensure(data, defaults=DEFAULTS, environ=environ)


def test_a_new_folder_gets_keys_that_the_settings_accept(tmp_path: Path) -> None:
    assert ensure(tmp_path) == ["CURFEW_SECRET_KEY", "CURFEW_ENCRYPTION_KEYS", "CURFEW_JWT_KEY", "CURFEW_BASE_URL"]
    values = keys.read(tmp_path)
    assert values["CURFEW_BASE_URL"] == "http://localhost:8000"
    assert len(values["CURFEW_SECRET_KEY"]) >= 50
    name, _, key = values["CURFEW_ENCRYPTION_KEYS"].partition(":")
    assert (name, len(base64.b64decode(key, validate=True))) == ("k1", 32)
    assert KeyRing(values["CURFEW_ENCRYPTION_KEYS"]).active_id == "k1"


def test_the_file_is_private_from_the_first_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    original = Path.replace
    monkeypatch.setattr(Path, "replace", lambda self, to: (seen.append(self.stat().st_mode), original(self, to))[1])
    ensure(tmp_path)
    assert [stat.S_IMODE(mode) for mode in seen] == [0o600]
    assert stat.S_IMODE((tmp_path / keys.FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [keys.FILE_NAME]


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    ensure(tmp_path)
    before = (tmp_path / keys.FILE_NAME).read_bytes()
    assert ensure(tmp_path) == []
    assert (tmp_path / keys.FILE_NAME).read_bytes() == before


def test_what_the_user_wrote_stays_and_only_what_is_missing_is_added(tmp_path: Path) -> None:
    written = "# mine\nCURFEW_SECRET_KEY=chosen\nCURFEW_BASE_URL='https://c.example.com'\nOTHER=1"
    (tmp_path / keys.FILE_NAME).write_text(written)
    assert ensure(tmp_path) == ["CURFEW_ENCRYPTION_KEYS", "CURFEW_JWT_KEY"]
    text = (tmp_path / keys.FILE_NAME).read_text()
    assert text.startswith(written + "\n")
    assert keys.read(tmp_path)["CURFEW_SECRET_KEY"] == "chosen"
    assert keys.read(tmp_path)["CURFEW_BASE_URL"] == "https://c.example.com"


def test_a_key_of_the_environment_is_not_written_down(tmp_path: Path) -> None:
    assert "CURFEW_SECRET_KEY" not in ensure(tmp_path, CURFEW_SECRET_KEY="from-the-vault")
    assert "CURFEW_SECRET_KEY" not in keys.read(tmp_path)


def test_lost_encryption_keys_beside_a_database_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "curfew.sqlite3").touch()
    with pytest.raises(Failure, match="could not be read again"):
        ensure(tmp_path)
    assert not (tmp_path / keys.FILE_NAME).exists()


def test_a_file_that_others_can_read_is_closed(tmp_path: Path) -> None:
    ensure(tmp_path)
    (tmp_path / keys.FILE_NAME).chmod(0o644)
    ensure(tmp_path)
    assert stat.S_IMODE((tmp_path / keys.FILE_NAME).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("stored", "port", "expected"),
    [
        ("http://localhost:8000", 8000, None),
        ("http://localhost:8000", 8001, "http://localhost:8001"),
        ("http://127.0.0.1:8000", 9000, "http://localhost:9000"),
        ("https://curfew.example.com", 8001, None),
    ],
)
def test_another_port_changes_only_a_local_address(
    tmp_path: Path, stored: str, port: int, expected: str | None
) -> None:
    (tmp_path / keys.FILE_NAME).write_text(f"CURFEW_BASE_URL={stored}\n")
    assert keys.base_url_for_run(tmp_path, port=port, environ={}) == expected


def test_the_environment_wins_over_another_port(tmp_path: Path) -> None:
    (tmp_path / keys.FILE_NAME).write_text("CURFEW_BASE_URL=http://localhost:8000\n")
    given_by_user = {"CURFEW_BASE_URL": "http://localhost:8000"}
    assert keys.base_url_for_run(tmp_path, port=8001, environ=given_by_user) is None


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True), st.from_regex(r"[!-~]{1,40}", fullmatch=True)
    )
)
def test_parse_reads_back_what_was_written(values: dict[str, str]) -> None:
    values = {name: value for name, value in values.items() if value[0] not in "\"'"}
    assert keys.parse("".join(f"{name}={value}\n" for name, value in values.items())) == values


def test_parse_leaves_comments_and_noise_out() -> None:
    assert keys.parse('# A=1\n\nnot a line\nexport B = two words \nC="q"\nD=\'\n') == {
        "B": "two words",
        "C": "q",
        "D": "'",
    }
