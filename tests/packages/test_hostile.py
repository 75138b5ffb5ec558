"""Packages that are damaged or made to harm: refused before anything is loaded, without Docker being asked anything."""

from __future__ import annotations

import json
import os
import random
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from cloudnodes.packages.builder import PackageBuilder, Request
from cloudnodes.packages.format import NodeSpec
from cloudnodes.packages.installer.actions import Installation, Options
from cloudnodes.packages.installer.archive import (
    MAX_16,
    MAX_32,
    Entry,
    ZipSource,
    central_header,
    end_records,
    local_header,
)
from cloudnodes.packages.installer.contents import open_source, read_manifest
from cloudnodes.packages.installer.ed25519 import ORDER, signature_holds
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.installer.problems import InstallProblem
from cloudnodes.packages.verify import verify_package
from tests.packages.saved import SavedImages, digest, layer

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small signed package."""
    source = SavedImages({"studio/a:1": [layer(1, 3000), layer(2, 2000)]})
    output = tmp_path_factory.mktemp("package") / "p.zip"
    return (
        PackageBuilder(Request([NodeSpec("A", "studio/a:1")], output, key=Ed25519PrivateKey.generate()), source)
        .build()
        .path
    )


def refused(path: Path) -> InstallProblem:
    """The refusal; fails if the package is accepted or if Docker is touched."""

    class NoDocker(Docker):
        def run(self, *arguments: str, **rest: Any) -> str:
            raise AssertionError(f"docker {arguments} before the package was verified")

    with pytest.raises(InstallProblem) as problem:
        Installation(Options(package=str(path), home=str(path.parent / "home")), NoDocker())
    assert problem.value.exit_code == 3
    assert not (path.parent / "home").exists()
    return problem.value


def test_every_single_byte_matters(package: Path, tmp_path: Path) -> None:
    """One flipped bit at each offset outside big contents, and at many inside: all refused."""
    whole = package.read_bytes()
    source = ZipSource(str(package))
    contents = [range(e.data_offset, e.data_offset + e.size) for e in source.entries.values()]
    outside = sorted(set(range(len(whole))) - {i for r in contents for i in r})
    chance = random.Random(7)
    inside = [chance.choice(r) for r in contents for _ in range(12)]
    assert len(outside) > 1000
    target = tmp_path / "flipped.zip"
    for offset in [*outside, *inside]:
        data = bytearray(whole)
        data[offset] ^= 1 << chance.randrange(8)
        target.write_bytes(data)
        with pytest.raises(InstallProblem):
            verify_package(target)
    assert refused(target).code


@pytest.mark.parametrize("cut", [0, 1, 21, 22, 5000, -1, -22, -100])
def test_cut_off(package: Path, tmp_path: Path, cut: int) -> None:
    (tmp_path / "cut.zip").write_bytes(package.read_bytes()[:cut])
    refused(tmp_path / "cut.zip")


def test_something_behind_before_or_between(package: Path, tmp_path: Path) -> None:
    whole = package.read_bytes()
    for data in (whole + b"x", b"x" + whole, whole + whole):
        (tmp_path / "more.zip").write_bytes(data)
        refused(tmp_path / "more.zip")


def forged(path: Path, fill: Callable[[zipfile.ZipFile], None]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        fill(archive)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "/etc/passwd",
        "nodes/../../evil",
        "C:/evil",
        "..\\evil",
        "nodes\\evil",
        "a//b",
        "./a",
        "a/.",
        "a/..",
        ".env",
        "a/.git",
        "nul",
        "nodes/COM1.txt",
        "a\0b",
        "a:b",
        "é",
        "end.",
        "x" * 200,
        "a/b/c/d/e/f/g",
        "folder/",
    ],
)
def test_climbing_and_odd_names(tmp_path: Path, name: str) -> None:
    info = zipfile.ZipInfo("placeholder")
    info.filename = name
    assert refused(forged(tmp_path / "slip.zip", lambda z: z.writestr(info, b"x"))).code == "unsafe_path"


def test_links_and_devices(tmp_path: Path) -> None:
    for kind, code in ((stat.S_IFLNK, "link"), (stat.S_IFCHR, "special_file"), (stat.S_IFDIR, "special_file")):
        info = zipfile.ZipInfo("layers")
        info.external_attr = (kind | 0o777) << 16
        assert refused(forged(tmp_path / "link.zip", lambda z, i=info: z.writestr(i, b"/etc/passwd"))).code == code  # type: ignore[misc]


def test_bombs(tmp_path: Path) -> None:
    """Compressed nothing, an overlapping quine's trick, and sizes that are not there."""
    bomb = forged(tmp_path / "bomb.zip", lambda z: z.writestr("layers", b"\0" * 50_000_000, zipfile.ZIP_DEFLATED))
    assert bomb.stat().st_size < 100_000
    assert refused(bomb).code == "compressed"

    header = local_header("a", 5, zlib.crc32(b"hello"))
    entries = [Entry("a", 5, zlib.crc32(b"hello"), 0), Entry("b", 5, zlib.crc32(b"hello"), 0)]
    directory = b"".join(map(central_header, entries))
    overlap = tmp_path / "overlap.zip"
    overlap.write_bytes(header + b"hello" + directory + end_records(2, len(directory), len(header) + 5))
    assert refused(overlap).code == "bad_size"

    huge = Entry("a", 2**40, 0, 0)
    liar = tmp_path / "liar.zip"
    directory = central_header(huge)
    liar.write_bytes(
        local_header("a", 2**40, 0) + directory + end_records(1, len(directory), len(local_header("a", 2**40, 0)))
    )
    assert refused(liar).code == "bad_size"


def test_a_directory_that_promises_too_much(tmp_path: Path) -> None:
    liar = tmp_path / "liar.zip"
    liar.write_bytes(struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 60000, 60000, 2**31, 0, 0))
    assert refused(liar).code == "damaged"


def test_duplicates(tmp_path: Path) -> None:
    data, crc = b"hello", zlib.crc32(b"hello")
    one = local_header("a", 5, crc) + data
    entries = [Entry("a", 5, crc, 0), Entry("a", 5, crc, len(one))]
    directory = b"".join(map(central_header, entries))
    (tmp_path / "twice.zip").write_bytes(one + one + directory + end_records(2, len(directory), 2 * len(one)))
    assert refused(tmp_path / "twice.zip").code == "duplicate"


def rewritten(
    package: Path, target: Path, change: Callable[[dict[str, Any]], None], files: dict[str, bytes] | None = None
) -> Path:
    """The package with another manifest, with right checksums all the way: what a forger without the key can do."""
    source = ZipSource(str(package))
    contents = {name: b"".join(source.chunks(name)) for name in source.names() if name != "manifest.sig"}
    contents.update(files or {})
    manifest = json.loads(contents["manifest.json"])
    change(manifest)
    contents["manifest.json"] = json.dumps(manifest).encode()
    contents["manifest.sha256"] = f"{digest(contents['manifest.json'])}  manifest.json\n".encode()
    data, entries = b"", []
    for name, content in contents.items():
        entries.append(Entry(name, len(content), zlib.crc32(content), len(data)))
        data += local_header(name, len(content), zlib.crc32(content)) + content
    directory = b"".join(map(central_header, entries))
    target.write_bytes(data + directory + end_records(len(entries), len(directory), len(data)))
    return target


def test_the_forger_can_write_whole_packages(package: Path, tmp_path: Path) -> None:
    """Otherwise the tests below would be refused for another reason."""
    verify_package(rewritten(package, tmp_path / "same.zip", lambda m: None))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(format="other"),
        lambda m: m.update(version=2),
        lambda m: m["nodes"][0].update(slug="../x"),
        lambda m: m["nodes"][0].update(slug="--privileged"),
        lambda m: m["nodes"][0].update(name="a\nb"),
        lambda m: m["nodes"][0].update(network="container:db"),
        lambda m: m["nodes"][0].update(image="other:1"),
        lambda m: m["nodes"][0].update(port=0),
        lambda m: m["nodes"][0].update(port="80:80"),
        lambda m: m["nodes"][0].update(environment={"A=B --privileged": "x"}),
        lambda m: m["nodes"][0].update(environment={"A": "x\ny"}),
        lambda m: m["nodes"][0].update(environment=["A"]),
        lambda m: m["nodes"][0].update(credentials=["--volume=/:/host"]),
        lambda m: m["nodes"][0].update(health_path='/x" --y'),
        lambda m: m["nodes"].clear(),
        lambda m: m["nodes"].append(m["nodes"][0]),
        lambda m: m["images"][0].update(reference="--help:1"),
        lambda m: m["images"][0].update(config="0" * 64),
        lambda m: m["images"][0]["layers"][0].update(diff_id="0" * 64),
        lambda m: m["images"][0]["layers"][0].update(file="install.py"),
        lambda m: m["images"][0]["layers"].clear(),
        lambda m: m["files"][0].update(path="../../x"),
        lambda m: m["files"].append(m["files"][0]),
        lambda m: m["files"].pop(),
        lambda m: m["files"][0].update(path="manifest.sig"),
        lambda m: m["files"][0].update(size=-1),
        lambda m: m["files"][0].update(crc32=True),
        lambda m: m.pop("base"),
        lambda m: m.update(base={"sha256": "x"}),
    ],
)
def test_manifests_that_lie_or_inject(package: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    refused(rewritten(package, tmp_path / "lie.zip", change))


def test_a_manifest_that_is_no_json(package: Path, tmp_path: Path) -> None:
    for text in ("", "[]", "null", "{}", "[" * 100_000, '"' + "x" * 1000):
        target = tmp_path / "m.zip"

        def put(path: Path = target, text: str = text) -> None:
            data, entries = b"", []
            for name, content in (
                ("manifest.json", text.encode()),
                ("manifest.sha256", f"{digest(text.encode())}  manifest.json\n".encode()),
            ):
                entries.append(Entry(name, len(content), zlib.crc32(content), len(data)))
                data += local_header(name, len(content), zlib.crc32(content)) + content
            directory = b"".join(map(central_header, entries))
            path.write_bytes(data + directory + end_records(2, len(directory), len(data)))

        put()
        assert refused(target).code in ("bad_manifest", "not_a_package")


def unpacked(package: Path, folder: Path) -> Path:
    with zipfile.ZipFile(package) as archive:
        archive.extractall(folder)
    return folder


def test_an_unpacked_package_is_as_good(package: Path, tmp_path: Path) -> None:
    folder = unpacked(package, tmp_path / "folder")
    (folder / ".DS_Store").write_bytes(b"left by a file manager")
    assert verify_package(folder)["signature"] == "valid"


def test_unpacked_every_file_is_checked(package: Path, tmp_path: Path) -> None:
    folder = unpacked(package, tmp_path / "folder")
    chance = random.Random(3)
    for path in [p for p in folder.rglob("*") if p.is_file()]:
        whole = path.read_bytes()
        data = bytearray(whole)
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        refused(folder)
        path.write_bytes(whole)
        target = tmp_path / "elsewhere"
        target.write_bytes(whole)
        path.unlink()
        path.symlink_to(target)
        if path.name != "manifest.sig":
            assert refused(folder).code in ("link", "not_a_package")
        path.unlink()
        path.write_bytes(whole)
    (folder / "layers").rename(tmp_path / "layers")
    (folder / "layers").symlink_to(tmp_path / "layers", target_is_directory=True)
    assert refused(folder).code == "link"


def test_a_fifo_does_not_hang_it(package: Path, tmp_path: Path) -> None:
    folder = unpacked(package, tmp_path / "folder")
    (folder / "README.txt").unlink()
    os.mkfifo(folder / "README.txt")
    assert refused(folder).code == "wrong_files"


def test_signatures_are_held_against_the_given_key(package: Path, tmp_path: Path) -> None:
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    with pytest.raises(InstallProblem) as problem:
        verify_package(package, public_key=other)
    assert problem.value.code == "foreign_signature"
    bare = rewritten(package, tmp_path / "bare.zip", lambda m: None)
    with pytest.raises(InstallProblem) as problem:
        verify_package(bare, public_key=other)
    assert problem.value.code == "unsigned"


def test_a_signature_of_another_manifest(package: Path, tmp_path: Path) -> None:
    signature = b"".join(ZipSource(str(package)).chunks("manifest.sig"))
    changed = rewritten(package, tmp_path / "x.zip", lambda m: m.update(title="other"), {"manifest.sig": signature})
    assert refused(changed).code == "bad_signature"


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300), st.integers(0, 63), st.integers(1, 255))
def test_ed25519_agrees_with_cryptography(message: bytes, where: int, change: int) -> None:
    key = Ed25519PrivateKey.generate()
    public, signature = key.public_key().public_bytes_raw(), key.sign(message)
    assert signature_holds(public, message, signature)
    assert not signature_holds(public, message + b"x", signature)
    wrong = bytearray(signature)
    wrong[where] ^= change
    assert not signature_holds(public, message, bytes(wrong))


def test_ed25519_published_vectors_and_malleability() -> None:
    """RFC 8032, 7.1: test 1 and 2; and the same signature with the order added, which it forbids."""
    vectors = [
        (
            "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            "",
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        ),
        (
            "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            "72",
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        ),
    ]
    for public, message, signature in vectors:
        raw = bytes.fromhex(signature)
        assert signature_holds(bytes.fromhex(public), bytes.fromhex(message), raw)
        twisted = raw[:32] + (int.from_bytes(raw[32:], "little") + ORDER).to_bytes(32, "little")
        assert not signature_holds(bytes.fromhex(public), bytes.fromhex(message), twisted)
    assert not signature_holds(b"\xff" * 32, b"", b"\0" * 64)
    assert not signature_holds(b"", b"", b"")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([0, 1, MAX_32 - 1, MAX_32, MAX_32 + 1, 2**40]), st.sampled_from([0, 5, MAX_32 - 1, MAX_32, 2**41])
)
def test_headers_agree_with_zipfile(size: int, offset: int) -> None:
    """What is written here is what Python's zipfile reads, also where ZIP64 begins."""
    entry = Entry("layers/x.tar", size, 12345, offset)
    directory = central_header(entry)
    archive = zipfile.ZipFile(
        _Sparse(
            directory + end_records(1, len(directory), offset + size + len(local_header("layers/x.tar", size, 1))),
            offset,
            size,
        )
    )  # type: ignore[arg-type]
    (info,) = archive.infolist()
    assert (info.filename, info.file_size, info.header_offset, info.CRC) == ("layers/x.tar", size, offset, 12345)


class _Sparse:
    """A file of which only the end exists."""

    def __init__(self, tail: bytes, offset: int, size: int) -> None:
        self._start = offset + size + len(local_header("layers/x.tar", size, 1))
        self._tail = tail
        self._at = 0

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (len(self._tail) + self._start if whence == 2 else self._at if whence == 1 else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        begin = self._at - self._start
        data = self._tail[begin:] if size < 0 else self._tail[begin : begin + size]
        self._at += len(data)
        return data

    def close(self) -> None:
        return


def test_more_entries_than_a_short_number(tmp_path: Path) -> None:
    count = MAX_16 + 3
    data, entries = bytearray(), []
    for number in range(count):
        entries.append(Entry(f"f{number}", 0, 0, len(data)))
        data += local_header(f"f{number}", 0, 0)
    directory = b"".join(map(central_header, entries))
    (tmp_path / "many.zip").write_bytes(bytes(data) + directory + end_records(count, len(directory), len(data)))
    assert len(ZipSource(str(tmp_path / "many.zip")).names()) == count
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.infolist()) == count


def test_a_large_file_crosses_into_zip64(tmp_path: Path) -> None:
    """A sparse file of 5 GiB: headers before and after the border are read back, by us and by zipfile."""
    size = 5 * 2**30
    entries = [
        Entry("big", size, 0, 0),
        Entry("after", 5, zlib.crc32(b"hello"), size + len(local_header("big", size, 0))),
    ]
    place = tmp_path / "large.zip"
    with place.open("wb") as file:
        file.write(local_header("big", size, 0))
        file.seek(size, os.SEEK_CUR)
        file.write(local_header("after", 5, zlib.crc32(b"hello")) + b"hello")
        end = file.tell()
        directory = b"".join(map(central_header, entries))
        file.write(directory + end_records(2, len(directory), end))
    assert list(ZipSource(str(place)).chunks("after")) == [b"hello"]
    with zipfile.ZipFile(place) as archive:
        assert archive.read("after") == b"hello"
        assert archive.getinfo("big").file_size == size


def test_reading_a_manifest_needs_no_docker(package: Path) -> None:
    assert read_manifest(open_source(str(package))).nodes[0].name == "A"
