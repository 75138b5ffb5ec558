"""Files that a stamp proves unchanged are not read again; every other one is, and restic is made to read it too."""

from __future__ import annotations

import mmap
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.machine import manifest, stamps, work
from agent.machine.stamps import Known

SECOND = 1_000_000_000


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are old enough to be believed."""
    folder = tmp_path / "workspace"
    (folder / "deep").mkdir(parents=True)
    for n in range(3):
        (folder / f"deep/{n}.txt").write_text(f"{n}" * 100)
    monkeypatch.setattr(stamps, "TICK", 20_000_000)
    time.sleep(0.05)
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order."""
    seen: list[str] = []
    plain = manifest._hash

    def hashed(path: str) -> str:
        seen.append(Path(path).name)
        return plain(path)

    monkeypatch.setattr(manifest, "_hash", hashed)
    return seen


def _learned(tree: Path, file: Path | None = None) -> Known:
    """What is known after one look at the tree."""
    known = Known(file)
    seen = manifest.take_look([str(tree)], known)
    known.learn(seen, manifest.look_again([str(tree)]), manifest.hashes(seen, known))
    known.save()
    return known


def _digest(tree: Path, known: Known) -> str:
    seen = manifest.take_look([str(tree)], known)
    return manifest.of_look(seen, manifest.hashes(seen, known)).digest


def test_what_is_unchanged_is_not_read_again_also_by_another_process(
    tree: Path, tmp_path: Path, reads: list[str]
) -> None:
    before = _digest(tree, _learned(tree, tmp_path / "hashes.json"))
    reads.clear()
    assert _digest(tree, Known(tmp_path / "hashes.json")) == before == manifest.build([str(tree)]).digest
    assert sorted(reads) == ["0.txt", "1.txt", "2.txt"], "only the comparison in this test reads"
    assert (tmp_path / "hashes.json").stat().st_mode & 0o777 == 0o600


def test_other_bytes_of_the_same_size_and_time_are_seen(tree: Path, reads: list[str]) -> None:
    known, file = _learned(tree), tree / "deep/1.txt"
    facts = file.stat()
    file.write_text("x" * 100)
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    reads.clear()
    assert _digest(tree, known) == manifest.build([str(tree)]).digest
    assert reads[0] == "1.txt"


def test_a_file_put_in_the_place_of_another_is_seen(tree: Path, reads: list[str]) -> None:
    known, file = _learned(tree), tree / "deep/1.txt"
    facts = file.stat()
    (tree / "new").write_text("y" * 100)
    os.utime(tree / "new", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (tree / "new").replace(file)
    reads.clear()
    _digest(tree, known)
    assert reads == ["1.txt"]


def _opened(file: Path) -> Any:
    return file.open("r+b")


def _mapped(file: Path) -> Any:
    with file.open("r+b") as opened:
        return mmap.mmap(opened.fileno(), 0)


@pytest.mark.parametrize("hold", [_opened, _mapped])
def test_a_file_that_somebody_can_write_to_is_never_believed(
    tree: Path, reads: list[str], hold: Callable[[Path], Any]
) -> None:
    with hold(tree / "deep/2.txt"):
        known = _learned(tree)
        reads.clear()
        _digest(tree, known)
    assert reads == ["2.txt"]


def test_a_file_of_this_moment_is_never_believed(tree: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]) -> None:
    monkeypatch.setattr(stamps, "TICK", 3600 * SECOND)
    known = _learned(tree)
    reads.clear()
    _digest(tree, known)
    assert len(reads) == 3


@pytest.mark.parametrize("mounts", ["30 1 0:1 / / rw - nfs4 server:/x rw\n", "", "nonsense"])
def test_a_file_system_that_is_not_trusted_is_read(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str], mounts: str
) -> None:
    (tmp_path / "mountinfo").write_text(mounts)
    monkeypatch.setattr(stamps, "MOUNTS", tmp_path / "mountinfo")
    known = _learned(tree)
    reads.clear()
    _digest(tree, known)
    assert len(reads) == 3


@pytest.mark.parametrize("text", ["", "{", '{"version":1,"files":{"/x":[1]}}', '{"version":99,"files":{}}'])
def test_a_damaged_memory_knows_nothing(tree: Path, tmp_path: Path, reads: list[str], text: str) -> None:
    _learned(tree, tmp_path / "hashes.json")
    (tmp_path / "hashes.json").write_text(text)
    reads.clear()
    _digest(tree, Known(tmp_path / "hashes.json"))
    assert len(reads) == 3


needs_restic = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")


@pytest.fixture
def order(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """A backup of the tree into a fresh repository; what is handed over is under "held"."""
    made: dict[str, Any] = {
        "id": "one",
        "paths": [str(tree)],
        "repository": str(tmp_path / "repository"),
        "password": "tests-only",
        "host": "test",
        "cache": str(tmp_path / "cache"),
        "platform": {"token_file": str(tmp_path / "token")},
    }
    monkeypatch.setattr(work, "upload", lambda order, tree: made.update(held=tree))
    _restic(made, "init")
    return made


def _restic(order: dict[str, Any], *words: str) -> bytes:
    keys = {"RESTIC_REPOSITORY": order["repository"], "RESTIC_PASSWORD": order["password"]}
    return subprocess.run(
        ["restic", "-q", *words], env={**os.environ, **keys}, check=True, stdout=subprocess.PIPE
    ).stdout


@needs_restic
def test_the_second_backup_of_the_same_tree_reads_nothing(tree: Path, order: dict[str, Any], reads: list[str]) -> None:
    first = work.backup(order, lambda **facts: None)
    reads.clear()
    second = work.backup(order, lambda **facts: None)
    assert reads == []
    assert second["digest"] == first["digest"]


@needs_restic
def test_what_is_written_while_restic_reads_makes_it_begin_anew(
    tree: Path, order: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, file, done = work.restic_backup, tree / "deep/0.txt", []

    def backup(*words: Any) -> dict[str, Any]:
        found = plain(*words)
        if not done:
            facts = file.stat()
            file.write_text("z" * 100)
            os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        done.append(found)
        return found

    monkeypatch.setattr(work, "restic_backup", backup)
    told = work.backup(order, lambda **facts: None)
    assert len(done) == 2
    assert _restic(order, "dump", told["snapshot_id"], str(file)) == b"z" * 100
    assert order["held"].digest == manifest.build([str(tree)]).digest


@needs_restic
def test_a_mapped_file_that_changes_without_a_new_stamp_is_in_the_snapshot(
    tree: Path, order: dict[str, Any], reads: list[str]
) -> None:
    file = tree / "deep/0.txt"
    with _mapped(file) as held:
        held[:3] = b"one"
        time.sleep(0.05)
        work.backup(order, lambda **facts: None)
        facts = file.stat()
        held[:3] = b"two"
        told = work.backup(order, lambda **facts: None)
    assert _restic(order, "dump", told["snapshot_id"], str(file))[:3] == b"two", (
        facts.st_ctime_ns - file.stat().st_ctime_ns
    )


def test_compression_is_chosen_by_what_it_saves(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    (tmp_path / "noise/a.bin").write_bytes(os.urandom(4_000_000))
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_bytes(b"the same words again " * 200_000)

    def chosen(folder: str, repository: str) -> str:
        seen = manifest.take_look([str(tmp_path / folder)], Known())
        return work._compression({"repository": repository}, seen)[1]

    assert chosen("noise", "/repository") == chosen("noise", "s3:https://x/y") == "off"
    assert chosen("text", "/repository") == chosen("text", "s3:https://x/y") == "auto"
    (tmp_path / "noise/b.txt").write_bytes(b"the same words again " * 50_000)
    assert chosen("noise", "/repository") == "off", "a fifth saved is not worth the time on a disk"
    assert chosen("noise", "s3:https://x/y") == "auto"
