"""The agent's own reader of restic's repositories brings back what `restic restore` brings back, or leaves it to it."""

from __future__ import annotations

import ctypes
import gzip
import hashlib
import http.server
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import transport
from agent.machine import backends, crypto, jobs, manifest, placing, repository, restoring, work
from agent.machine.repository import Surprise
from core.errors import InvalidInput
from gpu_fleet.api import agent_views
from tests.fakes.s3 import moto_server

pytestmark = pytest.mark.skipif(shutil.which("restic") is None, reason="restic is not installed")
PASSWORD = "correct horse"
MIB = 1024 * 1024


class Kept:
    """A repository, a tree in it, and the platform's part in memory."""

    def __init__(self, folder: Path, where: str = "", environment: dict[str, str] | None = None) -> None:
        self.folder, self.tree = folder, folder / "tree"
        self.where, self.environment = where or str(folder / "repository"), environment or {}
        self.tree.mkdir()
        self.snapshot, self.told = "", list[dict[str, Any]]()

    def restic(self, *words: str, password: str = PASSWORD) -> str:
        keys = {
            **os.environ,
            **self.environment,
            "RESTIC_REPOSITORY": self.where,
            "RESTIC_PASSWORD": password,
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
        }
        return subprocess.run(["restic", *words], check=True, capture_output=True, text=True, env=keys).stdout

    def init(self, version: int = 2) -> None:
        self.restic("init", "--repository-version", str(version))

    def save(self, *words: str) -> str:
        self.restic("backup", *words, str(self.tree))
        self.snapshot = json.loads(self.restic("snapshots", "--json", "--latest", "1"))[-1]["id"]
        return self.snapshot

    @property
    def order(self) -> dict[str, Any]:
        return {
            "id": "t",
            "repository": self.where,
            "password": PASSWORD,
            "environment": self.environment,
            "snapshot": self.snapshot,
            "manifest": "m",
            "cache": str(self.folder / "cache"),
        }

    def read(self, target: Path) -> placing.Placing:
        """By the reader alone, without anything to compare with."""
        reader = repository.opened(self.order)
        try:
            found = placing.Placing(reader, reader.nodes(self.snapshot), str(target), {})
            found.make_folders()
            found.bring(found.files(lambda path: True), lambda done: None)
            found.place_others()
            found.settle_folders(lambda path: True)
        finally:
            reader.close()
        return found

    def restore(self, monkeypatch: pytest.MonkeyPatch, before: manifest.Manifest) -> dict[str, Any]:
        """As an order of the platform, in place."""
        monkeypatch.setattr(
            restoring,
            "_download",
            lambda order: manifest.parse(gzip.decompress(work.packed(before)).decode().splitlines()),
        )
        return restoring.restore(self.order, lambda **facts: self.told.append(facts))

    def packs(self) -> list[Path]:
        return sorted(file for file in Path(self.where, "data").rglob("*") if file.is_file())


@pytest.fixture
def kept(tmp_path: Path) -> Kept:
    made = Kept(tmp_path)
    made.init()
    return made


def walk(top: Path) -> dict[bytes, tuple[Any, ...]]:
    """Everything `stat` tells of a tree but the inode and ctime, with content, links by group, and attributes."""
    found: dict[bytes, tuple[Any, ...]] = {}
    groups: dict[tuple[int, int], bytes] = {}
    root = os.fsencode(top)
    for folder, folders, files in os.walk(root):
        for name in sorted([*folders, *files]):
            path = os.path.join(folder, name)  # noqa: PTH118  bytes
            facts = os.lstat(path)
            content: Any = None
            if stat.S_ISREG(facts.st_mode):
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path)  # noqa: PTH115
            first = groups.setdefault((facts.st_dev, facts.st_ino), path[len(root) :])
            attributes = {name: os.getxattr(path, name, follow_symlinks=False) for name in _attributes(path)}
            size = 0 if stat.S_ISDIR(facts.st_mode) else facts.st_size
            found[path[len(root) :]] = (
                oct(facts.st_mode), facts.st_uid, facts.st_gid, size, facts.st_mtime_ns, facts.st_atime_ns if content is None else 0,
                facts.st_nlink, facts.st_rdev, first, content, attributes,
            )  # fmt: skip
    return found


def _attributes(path: bytes) -> list[str]:
    return os.listxattr(path, follow_symlinks=False)


def odd_tree(tree: Path) -> None:
    """One of everything."""
    chance = random.Random(5)
    (tree / "deep/er").mkdir(parents=True)
    (tree / "empty-folder").mkdir(mode=0o711)
    (tree / "closed").mkdir()
    (tree / "closed/inner").write_text("x")
    (tree / "empty").touch()
    (tree / "one").write_text("one")
    (tree / "copy-of-one").write_text("one")
    (tree / "large.bin").write_bytes(chance.randbytes(9 * MIB))
    shutil.copy(tree / "large.bin", tree / "deep/the same.bin")
    (tree / "text.txt").write_text("all work and no play\n" * 200_000)
    (tree / "zeros").write_bytes(bytes(20 * MIB))
    with (tree / "sparse").open("wb") as file:
        file.seek(5 * MIB)
        file.write(b"end")
    os.link(tree / "large.bin", tree / "deep/a-name-of-large")
    os.link(tree / "one", tree / "deep/er/two")
    os.link(tree / "one", tree / "aaa-first")
    (tree / "empty-linked").touch()
    os.link(tree / "empty-linked", tree / "deep/empty-linked-too")
    for name in (
        b"new\nline", b"star*[x]?", b"back\\slash", b"not-utf8-\xff\xfe", b'quo"te', "ünïcode \u2028 😀".encode(), b"\x01\x7f",
        b" spaces ", b"-dash", "\ufeffbom".encode(), "\xad".encode(),
    ):  # fmt: skip
        Path(os.fsdecode(os.fsencode(tree) + b"/" + name)).write_bytes(name)
    (tree / "suid").write_text("#!/bin/sh\n")
    (tree / "suid").chmod(0o6755)
    (tree / "sticky").mkdir()
    (tree / "sticky").chmod(0o3777)
    (tree / "secret").write_text("s")
    (tree / "secret").chmod(0o600)
    (tree / "nothing").write_text("n")
    (tree / "nothing").chmod(0)
    (tree / "link").symlink_to("nowhere/at all")
    (tree / "link-to-folder").symlink_to("deep")
    (tree / "absolute").symlink_to("/etc/hostname")
    os.mkfifo(tree / "pipe", 0o640)
    if os.geteuid() == 0:
        os.chown(tree / "one", 1234, 4321)
        os.lchown(tree / "link", 77, 78)
        os.chown(tree / "deep", 5, 6)
        os.mknod(tree / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    for name, time_ns in (("empty", 1), ("one", 4_102_444_800_123_456_789), ("secret", -1_500_000_001), ("sparse", 0)):
        os.utime(tree / name, ns=(time_ns, time_ns))
    os.utime(tree / "link", ns=(1_000_000_007, 1_000_000_007), follow_symlinks=False)
    try:
        os.setxattr(tree / "one", "user.curfew", b"\x00\xffvalue")
        os.setxattr(tree / "deep", "user.of-folder", b"")
    except OSError:
        pass
    (tree / "closed").chmod(0o500)
    os.utime(tree / "deep/er", ns=(7, 1_600_000_000_000_000_001))


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("words", [(), ("--compression", "off"), ("--compression", "max")])
def test_an_odd_tree_comes_back_as_restic_brings_it(tmp_path: Path, version: int, words: tuple[str, ...]) -> None:
    if version == 1 and words:
        pytest.skip("version 1 knows no compression")
    kept = Kept(tmp_path)
    kept.init(version)
    odd_tree(kept.tree)
    kept.save(*words)
    kept.restic("restore", kept.snapshot, "--target", str(tmp_path / "theirs"))
    kept.read(tmp_path / "ours")
    ours, theirs = walk(tmp_path / "ours"), walk(tmp_path / "theirs")
    assert ours.keys() == theirs.keys()
    assert {path: (ours[path], theirs[path]) for path in ours if ours[path] != theirs[path]} == {}
    kept.read(tmp_path / "ours")  # over what is there
    assert walk(tmp_path / "ours") == theirs


def test_mixed_packs_and_blobs_that_lie_twice(kept: Kept, tmp_path: Path) -> None:
    odd_tree(kept.tree)
    kept.save("--compression", "off")
    lost = kept.packs()
    index = sorted(Path(kept.where, "index").iterdir())
    for file in index:  # restic stores all again, compressed, and then both are known
        file.rename(tmp_path / file.name)
    kept.save("--force", "--compression", "max")
    for file in index:
        (tmp_path / file.name).rename(file)
    assert len(kept.packs()) > len(lost)
    kept.restic("restore", kept.snapshot, "--target", str(tmp_path / "theirs"))
    kept.read(tmp_path / "ours")
    assert walk(tmp_path / "ours") == walk(tmp_path / "theirs")


names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..") and len(name.encode()) < 200
)
leaves = st.one_of(
    st.binary(max_size=300),
    st.integers(0, 2**32).map(lambda seed: random.Random(seed).randbytes(seed % (3 * MIB))),
    st.integers(0, 6 * MIB).map(bytes),
)
bodies = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, max_size=4), max_leaves=12)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    tree=st.dictionaries(names, bodies, max_size=6),
    mode=st.integers(0, 0o7777),
    mtime=st.integers(-(2**33), 2**34 - 1),
    nano=st.integers(0, 999_999_999),
)
def test_any_tree_comes_back_as_restic_brings_it(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any], mode: int, mtime: int, nano: int
) -> None:
    folder = tmp_path_factory.mktemp("any")
    kept = Kept(folder)
    kept.init()
    try:
        _make(kept.tree, tree)
        for name in tree:
            (kept.tree / name).chmod(mode)
            os.utime(kept.tree / name, ns=(mtime * 1_000_000_000 + nano,) * 2)
        kept.save()
        kept.restic("restore", kept.snapshot, "--target", str(folder / "theirs"))
        kept.read(folder / "ours")
        assert walk(folder / "ours") == walk(folder / "theirs")
    finally:
        shutil.rmtree(folder)


def _make(folder: Path, tree: dict[str, Any]) -> None:
    for name, body in tree.items():
        if isinstance(body, dict):
            (folder / name).mkdir()
            _make(folder / name, body)
        else:
            (folder / name).write_bytes(body)


# what the reader cannot do, restic does ------------------------------------------------------------------------


def _fill(tree: Path) -> None:
    chance = random.Random(1)
    for n in range(40):
        (tree / f"small {n}").write_bytes(chance.randbytes(3000 + n))
    for n in range(3):
        (tree / f"large {n}").write_bytes(chance.randbytes(3 * MIB + n))
    (tree / "a-link").symlink_to("large 0")


@pytest.fixture
def saved(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> tuple[Kept, manifest.Manifest]:
    """A tree with small and large files, saved and gone, of a size that counts as large."""
    _fill(kept.tree)
    monkeypatch.setattr(restoring, "SMALL", 1000)
    monkeypatch.setattr(restoring, "LARGE_FILE", MIB)
    before = manifest.build([str(kept.tree)])
    kept.save()
    shutil.rmtree(kept.tree)
    return kept, before


Saved = tuple[Kept, manifest.Manifest]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What restic was asked by the agent."""
    asked: list[list[str]] = []
    plain = work.restic

    def restic(order: Any, arguments: list[str], hear: Any, *, nice: int = 0) -> None:
        asked.append(arguments)
        plain(order, arguments, hear, nice=nice)

    monkeypatch.setattr(work, "restic", restic)
    return asked


def whole(result: dict[str, Any], before: manifest.Manifest) -> bool:
    return (result["digest"], result["missing"], result["size"]) == (before.digest, 0, before.size)


def test_the_reader_restores_and_compares_without_restic(saved: Saved, runs: list[Any], monkeypatch: Any) -> None:
    kept, before = saved
    result = kept.restore(monkeypatch, before)
    assert (whole(result, before), result["reader"], runs) == (True, "", [])
    assert manifest.build([str(kept.tree)]).digest == before.digest
    assert [fact["usable"] for fact in kept.told if "usable" in fact] == [True]


def _no_crypto(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, *words: Any) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    crypto._crypto.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", refuse)


def _no_zstd(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ctypes.CDLL

    def load(name: str, *words: Any) -> Any:
        if "zstd" in name:
            raise OSError("libzstd.so.1: cannot open shared object file")
        return plain(name, *words)

    crypto._zstd.cache_clear()
    monkeypatch.setattr(ctypes, "CDLL", load)


def _unknown_option(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Kept, "order", property(lambda self, plain=Kept.order.fget: {**plain(self), "restic_options": ["--no-cache"]})
    )


def _other_version(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = json.loads
    monkeypatch.setattr(
        repository.json, "loads", lambda text: {**told, "version": 3} if "chunker_polynomial" in (told := plain(text)) else told
    )  # fmt: skip


@pytest.fixture
def libraries() -> Iterator[None]:
    """Nothing of a library that was not there is remembered."""
    yield
    crypto._crypto.cache_clear()
    crypto._zstd.cache_clear()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_no_crypto, "libcrypto"),
        (_no_zstd, "libzstd"),
        (_unknown_option, "options"),
    ],
)
def test_what_it_cannot_do_restic_does_and_the_result_says_why(
    saved: Saved, runs: list[Any], libraries: None, monkeypatch: Any, spoil: Callable[..., None], why: str
) -> None:
    kept, before = saved
    spoil(kept, monkeypatch)
    result = kept.restore(monkeypatch, before)
    assert whole(result, before)
    assert why in result["reader"]
    assert runs
    assert any("with restic" in str(fact.get("step")) for fact in kept.told)


def test_an_unknown_version_is_left_to_restic(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, _ = saved
    _other_version(kept, monkeypatch)
    with pytest.raises(Surprise, match="version 3"):
        repository.opened(kept.order)


def test_a_wrong_password_is_told_by_restic(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, before = saved
    monkeypatch.setattr(Kept, "order", property(lambda self, plain=Kept.order.fget: {**plain(self), "password": "no"}))
    with pytest.raises(Surprise, match="password"):
        repository.opened(kept.order)
    with pytest.raises(work.Failed, match="wrong password"):
        kept.restore(monkeypatch, before)


def _data_pack(kept: Kept) -> Path:
    """The largest, which holds files and no lists."""
    return max(kept.packs(), key=lambda file: file.stat().st_size)


def test_a_flipped_bit_is_never_restored(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, before = saved
    pack = _data_pack(kept)
    spoilt = bytearray(pack.read_bytes())
    spoilt[len(spoilt) // 2] ^= 4
    pack.chmod(0o600)
    pack.write_bytes(spoilt)
    with pytest.raises(Surprise, match="checksum"):
        kept.read(kept.folder / "ours")
    with pytest.raises(work.Failed, match="restic ended with"):
        kept.restore(monkeypatch, before)


@pytest.mark.slow  # restic 0.14 asks for a file that is not there again and again
def test_a_pack_that_is_not_there_is_never_passed_over(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, before = saved
    _data_pack(kept).unlink()
    with pytest.raises(Surprise, match="cannot be read"):
        kept.read(kept.folder / "ours")
    with pytest.raises(work.Failed):
        kept.restore(monkeypatch, before)


@pytest.mark.parametrize("kind", ["index", "snapshots", "keys", "config"])
def test_a_file_that_was_cut_off_is_a_surprise(saved: Saved, kind: str) -> None:
    kept, _ = saved
    file = Path(kept.where, kind)
    file = next(file.iterdir()) if file.is_dir() else file
    content = file.read_bytes()
    file.chmod(0o600)
    for size in (len(content) - 1, 20, 0):
        file.write_bytes(content[:size])
        with pytest.raises(Surprise):
            repository.opened(kept.order).nodes(kept.snapshot)


def test_what_was_pruned_meanwhile_is_found_by_restic(
    kept: Kept, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retention rewrites the packs after the reader has read the index."""
    _fill(kept.tree)
    (kept.tree / "extra").write_bytes(os.urandom(2 * MIB))
    other = kept.save()
    (kept.tree / "extra").unlink()
    before = manifest.build([str(kept.tree)])
    kept.save()
    shutil.rmtree(kept.tree)
    plain = repository.Repository.nodes

    def nodes(self: repository.Repository, snapshot: str) -> list[repository.Node]:
        found = plain(self, snapshot)
        kept.restic("forget", other)
        kept.restic("prune", "--max-unused", "0")
        return found

    monkeypatch.setattr(repository.Repository, "nodes", nodes)
    result = kept.restore(monkeypatch, before)
    assert whole(result, before)
    assert "cannot be read" in result["reader"]
    assert runs


def test_after_usable_restic_is_asked_for_no_more_than_what_is_not_there(
    saved: Saved, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Work that was begun as soon as it was told to be possible is not written over."""
    kept, before = saved

    def hear(**facts: Any) -> None:
        kept.told.append(facts)
        if facts.get("usable"):
            (kept.tree / "small 1").write_text("my work of today")
            monkeypatch.setattr(placing.Placing, "_several", lambda self, content, nodes: _failing)

    def _failing(reader: Any) -> int:
        raise Surprise("the line is gone")

    monkeypatch.setattr(restoring, "_download", lambda order: before)
    result = restoring.restore(kept.order, hear)
    assert (kept.tree / "small 1").read_text() == "my work of today"
    assert (whole(result, before), result["reader"]) == (True, "the line is gone")
    assert all("--include" in asked and not any("small" in word for word in asked) for asked in runs)
    assert len(runs) == 1


def test_what_differs_from_the_hashes_is_brought_again_and_told(
    saved: Saved, runs: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison is with what the machine had, whatever the repository says of itself."""
    kept, before = saved
    other = [
        manifest.Entry(e.path, e.kind, e.mode, e.size, "0" * 64) if e.path.endswith("large 1") else e
        for e in before.entries
    ]
    result = kept.restore(monkeypatch, manifest.of(other))
    assert "is not what was saved" in result["reader"]
    assert runs
    assert result["digest"] == before.digest


def test_it_can_be_killed_and_run_again(saved: Saved, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, before = saved
    body = (
        "import sys, os, json, pickle\n"
        "from agent.machine import restoring, manifest, placing\n"
        "order, lines = json.load(sys.stdin)\n"
        "restoring.SMALL, restoring.LARGE_FILE = 1000, 1 << 20\n"
        "restoring._download = lambda order: manifest.parse(lines)\n"
        "plain, count = placing._write, [0]\n"
        "def write(*words):\n"
        "    plain(*words); count[0] += 1\n"
        "    if count[0] == int(sys.argv[1]): os.kill(os.getpid(), 9)\n"
        "placing._write = write\n"
        "restoring.restore(order, lambda **facts: None)\n"
    )
    told = json.dumps([kept.order, list(before.lines())])
    for after in (1, 20, 41, 44):
        done = subprocess.run([sys.executable, "-c", body, str(after)], input=told, text=True, check=False)
        assert done.returncode == -9
    (kept.tree / "small 7").unlink()
    (kept.tree / "small 7").symlink_to("/etc/passwd")  # and something odd is in the way
    (kept.tree / "small 8").unlink()
    (kept.tree / "small 8").mkdir()
    result = kept.restore(monkeypatch, before)
    assert (whole(result, before), result["reader"]) == (True, "")
    assert manifest.build([str(kept.tree)]).digest == before.digest


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="no /proc")
def test_memory_does_not_grow_with_the_size_of_files(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    chance = random.Random(3)
    for n in range(3):
        (kept.tree / f"{n}.bin").write_bytes(chance.randbytes(60 * MIB))
    (kept.tree / "zeros").write_bytes(bytes(200 * MIB))
    before = manifest.build([str(kept.tree)])
    kept.save()
    shutil.rmtree(kept.tree)
    body = (
        "import sys, json, re, pathlib\n"
        "from agent.machine import restoring, manifest\n"
        "order, lines = json.load(sys.stdin)\n"
        "restoring._download = lambda order: manifest.parse(lines)\n"
        "result = restoring.restore(order, lambda **facts: None)\n"
        "status = pathlib.Path('/proc/self/status').read_text()\n"
        "print(json.dumps([result, int(re.search(r'VmHWM:\\s+(\\d+) kB', status)[1])]))\n"
    )
    told = json.dumps([kept.order, list(before.lines())])
    done = subprocess.run([sys.executable, "-c", body], input=told, text=True, check=True, capture_output=True)
    result, kib = json.loads(done.stdout)
    assert (result["digest"], result["reader"]) == (before.digest, "")
    assert kib < 150 * 1024


# other places ----------------------------------------------------------------------------------------------------


@pytest.fixture
def s3(tmp_path: Path) -> Iterator[Kept]:
    keys = {"aws_access_key_id": "x", "aws_secret_access_key": "y", "region_name": "eu-west-1"}
    with moto_server() as url:
        boto3.client("s3", endpoint_url=url, **keys).create_bucket(
            Bucket="kept", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
        )
        made = Kept(
            tmp_path,
            f"s3:{url}/kept/curfew/7",
            {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y", "AWS_DEFAULT_REGION": "eu-west-1"},
        )
        made.init()
        yield made


def test_out_of_a_bucket(s3: Kept, runs: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    odd_tree(s3.tree)
    s3.save()
    s3.restic("restore", s3.snapshot, "--target", str(s3.folder / "theirs"))
    s3.read(s3.folder / "ours")
    assert walk(s3.folder / "ours") == walk(s3.folder / "theirs")
    s3.environment = {**s3.environment, "AWS_SESSION_TOKEN": "of/a+session=="}
    before = manifest.build([str(s3.tree)])
    shutil.rmtree(s3.tree)
    result = s3.restore(monkeypatch, before)
    assert (whole(result, before), result["reader"], runs) == (True, "", [])


def test_the_signature_is_the_one_that_botocore_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    from botocore.auth import S3SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    keys = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "se/cret", "AWS_SESSION_TOKEN": "to+ken/="}
    bucket = backends.Bucket("https://s3.example.com:9000/a-bucket/some folder", keys)
    path = bucket._path("data", "ab" * 32)
    for query in ("", "continuation-token=a%2Fb%3D&list-type=2&prefix=some%20folder%2Fkeys%2F"):
        ours = bucket._signed(path, query)
        asked = AWSRequest("GET", f"https://s3.example.com:9000{path}" + (f"?{query}" if query else ""))
        asked.headers["X-Amz-Content-SHA256"] = backends.EMPTY
        asked.context["timestamp"] = ours["x-amz-date"]
        auth = S3SigV4Auth(Credentials("AKID", "se/cret", "to+ken/="), "s3", "us-east-1")
        monkeypatch.setattr(auth, "_modify_request_before_signing", lambda request: None)
        asked.headers["X-Amz-Date"], asked.headers["X-Amz-Security-Token"] = ours["x-amz-date"], "to+ken/="
        text = auth.string_to_sign(asked, auth.canonical_request(asked))
        assert ours["Authorization"].endswith(auth.signature(text, asked))


class RestServer(http.server.BaseHTTPRequestHandler):
    """restic's REST protocol over a folder, for reading; `ranges` off answers with the whole file. It fails at times."""

    protocol_version = "HTTP/1.1"
    folder, ranges, every = Path(), True, 0
    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        if self.headers["Authorization"] != "Basic bWU6cEBzcw==":
            return self._answer(401, b"")
        if self.every and type(self).seen % self.every == 0:
            self.close_connection = True
            return self.connection.close()
        parts = self.path.removeprefix("/deep/").split("/")
        if parts[-1] == "":
            told = [{"name": f.name, "size": f.stat().st_size} for f in (self.folder / parts[0]).iterdir()]
            return self._answer(200, json.dumps(told).encode())
        place = self.folder / parts[0] / (parts[1][:2] if parts[0] == "data" else "") / "/".join(parts[1:])
        if not place.is_file():
            return self._answer(404, b"")
        content = place.read_bytes()
        if self.ranges and (asked := self.headers["Range"]):
            start, _, end = asked.removeprefix("bytes=").partition("-")
            return self._answer(206, content[int(start) : int(end) + 1])
        return self._answer(200, content)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words: Any) -> None:
        """Quiet."""


@contextmanager
def served(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[int]:
    """The port at which it answers."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(("ranges", "every"), [(True, 0), (False, 0), (True, 7)])
def test_over_restics_own_protocol(kept: Kept, monkeypatch: pytest.MonkeyPatch, ranges: bool, every: int) -> None:
    odd_tree(kept.tree)
    kept.save()
    before = manifest.build([str(kept.tree)])
    shutil.rmtree(kept.tree)
    handler = type("Handler", (RestServer,), {"folder": Path(kept.where), "ranges": ranges, "every": every})
    monkeypatch.setattr(backends, "PAUSE", 0.01)
    with served(handler) as port:
        kept.where = f"rest:http://me:p%40ss@127.0.0.1:{port}/deep/"
        result = kept.restore(monkeypatch, before)
    assert (whole(result, before), result["reader"]) == (True, "")


def test_another_kind_of_repository_is_left_to_restic() -> None:
    for where in ("sftp:host:/folder", "rclone:remote:folder", "b2:bucket:folder", "relative/folder"):
        with pytest.raises(backends.Lost, match="not known"):
            backends.store({"repository": where})


# its process ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "error"),
    [
        ({"kind": "restore", "manifest": "m"}, "the platform does not tell what the snapshot holds: 404"),
        ({"kind": "push", "paths": ["/not/there"]}, "/not/there is not a folder"),
    ],
)
def test_what_failed_in_a_process_of_its_own_says_why(tmp_path: Path, order: dict[str, Any], error: str) -> None:
    """Started as the agent starts it, where the module that runs is `__main__` and others import it by its name."""
    (tmp_path / "token").write_text("secret")
    nothing = type("Nothing", (RestServer,), {"do_GET": lambda self: self._answer(404, b"")})
    with served(nothing) as port:
        orders = jobs.Jobs(tmp_path, {"url": f"http://127.0.0.1:{port}", "token_file": str(tmp_path / "token")})
        orders.take({"id": "t", **order})
        orders._children["t"].wait(60)
    (told,) = orders.reports()
    assert (told["state"], told["error"]) == ("failed", error)


def test_a_list_of_very_many_files_comes_back(tmp_path: Path) -> None:
    """220,000 files, as a few Python environments have: about ten MiB of hashes, more than other answers may have."""
    (tmp_path / "token").write_text("secret")
    chance = random.Random(1)
    lines = [
        json.dumps(
            {"path": f"/w/{n}", "kind": "f", "mode": 420, "size": n, "sha256": f"{chance.getrandbits(256):064x}"}
        )
        for n in range(220_000)
    ]
    body = gzip.compress("".join(f"{line}\n" for line in lines).encode(), 1)
    assert transport.LARGEST_REPLY < len(body) < manifest.LARGEST == agent_views.LARGEST_MANIFEST
    with served(type("Server", (RestServer,), {"do_GET": lambda self: self._answer(200, body)})) as port:
        platform = {"url": f"http://127.0.0.1:{port}", "token_file": str(tmp_path / "token")}
        assert restoring._download({"platform": platform, "manifest": "x"}).files == 220_000


def test_hashes_that_are_damaged_or_a_bomb_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    fine = gzip.compress(bytes(3_000_000))
    agent_views.check_packed(fine)
    for bad in (b"", b"x", fine[:-20], fine[:30] + b"\xff" + fine[31:]):
        with pytest.raises(InvalidInput, match="gzip"):
            agent_views.check_packed(bad)
    monkeypatch.setattr(agent_views, "LARGEST_TEXT", 2_999_999)
    with pytest.raises(InvalidInput, match="More than"):
        agent_views.check_packed(fine)


# the parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T01:00:00.5+01:00", 500_000_000),
        ("1969-12-31T23:59:58.499999999Z", -1_500_000_001),
        ("2026-11-29T16:18:21.139915435-07:30", 1_795_996_101_139_915_435),
        ("0001-01-01T00:00:00Z", -6_795_364_578_871_345_152),
    ],
)
def test_times(text: str, value: int) -> None:
    assert repository.nanoseconds(text) == value


def test_names() -> None:
    assert repository.unquoted(r"a\n\\b\"\xff\u00ad\U0001f600\a") == b'a\n\\b"\xff\xc2\xad\xf0\x9f\x98\x80\a'


def test_one_bit_anywhere_is_noticed(kept: Kept) -> None:
    """Of the nonce, of the text and of the sum."""
    key = crypto.Key(b"e" * 32, b"k" * 16, b"r" * 16)
    opener = crypto.Opener(key)
    reader = repository.opened(kept.order)
    reader.close()
    sealed = bytearray(64)
    with pytest.raises(crypto.Forged):
        opener.opened(bytes(sealed))
    with pytest.raises(crypto.Forged):
        opener.opened(b"short")
    config = Path(kept.where, "config").read_bytes()
    opener = crypto.Opener(repository._master(backends.store(kept.order), PASSWORD))
    assert b"chunker_polynomial" in opener.opened(config)
    for at in range(len(config)):
        spoilt = bytearray(config)
        spoilt[at] ^= 1 << at % 8
        with pytest.raises(crypto.Forged):
            opener.opened(bytes(spoilt))
    opener.close()


def test_pieces_in_any_order_are_hashed_as_the_file_grows(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """As packs come over a line: the hash is of the file from its beginning, whichever piece was first."""
    chance = random.Random(9)
    (kept.tree / "large").write_bytes(chance.randbytes(12 * MIB))
    (kept.tree / "copy").write_bytes((kept.tree / "large").read_bytes())
    (kept.tree / "half").write_bytes((kept.tree / "large").read_bytes()[6 * MIB :])
    before = manifest.build([str(kept.tree)])
    kept.save()
    shutil.rmtree(kept.tree)
    monkeypatch.setattr(backends.Folder, "lines", 3)
    plain = repository.Index.runs

    def shuffled(self: repository.Index, places: Any, far: bool = False) -> list[repository.Run]:
        found = [run._replace(places=[p]) for run in plain(self, places, far) for p in run.places]
        random.Random(2).shuffle(found)
        return found

    monkeypatch.setattr(repository.Index, "runs", shuffled)
    result = kept.restore(monkeypatch, before)
    assert (whole(result, before), result["reader"]) == (True, "")
    assert manifest.build([str(kept.tree)]).digest == before.digest


def test_an_unchanged_tree_is_not_sampled_for_compression(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    _fill(kept.tree)
    asked: list[list[str]] = []
    monkeypatch.setattr(work, "upload", lambda order, tree: None)
    monkeypatch.setattr("agent.machine.stamps.TICK", 20_000_000)
    monkeypatch.setattr(
        work, "restic_backup", lambda order, paths, tell, more: asked.append(more) or {"snapshot_id": "s"}
    )
    order = {**kept.order, "paths": [str(kept.tree)], "platform": {"token_file": str(kept.folder / "token")}}
    threading.Event().wait(0.05)
    work.backup(order, lambda **facts: None)
    work.backup(order, lambda **facts: None)
    assert [bool(words) for words in asked] == [True, False]
