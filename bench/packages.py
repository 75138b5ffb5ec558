"""How fast install packages are written, verified and installed, beside the raw disk and beside Docker alone.

    python -m bench.packages [--megabytes 2000] [--layers 4] [--times 2]

Two engines of its own without a network: the package is built on the first and installed on the second. Every rate is of
the package's bytes. "Raw" is 4 MB pieces to and from one file on the same disk, written with fsync and read after the page
cache has dropped the file; "raw direct" is the same past the page cache into a file that has its room already, which is how
packages are written. They are measured before and after the rest, and the better of the two counts. Docker's own `save` and
`load` of the same image are measured in the same run, since no package can be quicker than they are, and so are the rates
of SHA-256 and CRC-32 alone, since every byte has to pass them. `write_package` is a build from an archive of `docker save`
that lies ready, in the form that engines have since 25; `write_classic` from one of this engine (20.10), whose layers come in
another order and wait as files. `build` is all of it, with the engine. All end when the package is on the disk.
`engine_first_byte_seconds` is how long the engine copies before it sends anything, `engine_stream` its rate from the first
byte on to a reader that throws them away. Root and dockerd are needed.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import mmap
import os
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import docker

from bench.support import report
from cloudnodes.packages.builder import PackageBuilder, Request
from cloudnodes.packages.format import NodeSpec
from cloudnodes.packages.images import EngineImages, ImageFacts, ImageSource
from cloudnodes.packages.installer.actions import Installation, Options, uninstall
from cloudnodes.packages.installer.engine import Docker
from cloudnodes.packages.verify import verify_package
from tests.fakes.dockerd import DockerEngine

PIECE = 4 * 1024 * 1024
TAG = "bench/node:1"


def timed(work: Callable[[], Any]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def forget(path: Path) -> None:
    """Bring a file to the disk and out of the page cache, so that reading it is reading the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Raw(NamedTuple):
    """Seconds to write so many bytes (with fsync), to write them past the page cache, and to read them."""

    write: float
    direct: float
    read: float


def raw(folder: Path, size: int) -> Raw:
    path, data = folder / "raw", mmap.mmap(-1, PIECE)
    data.write(os.urandom(PIECE))

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(size // PIECE):
                file.write(data)
            os.fsync(file.fileno())

    def read() -> None:
        with path.open("rb", buffering=0) as file:
            while file.read(PIECE):
                continue

    def direct() -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_DIRECT)
        os.posix_fallocate(file, 0, size // PIECE * PIECE)
        for _ in range(size // PIECE):
            os.write(file, data)
        os.fsync(file)
        os.close(file)

    writing = timed(write)
    path.unlink()
    directly = timed(direct)
    forget(path)
    reading = timed(read)
    path.unlink()
    return Raw(writing, directly, reading)


def hashing(size: int) -> dict[str, float]:
    """Rates of the sums that a package needs, on bytes in memory: no disk, no engine. SHA-256 is OpenSSL's."""
    data = os.urandom(PIECE)

    def sha() -> None:
        digest = hashlib.sha256()
        for _ in range(size // PIECE):
            digest.update(data)

    def crc() -> None:
        value = 0
        for _ in range(size // PIECE):
            value = zlib.crc32(data, value)

    def both() -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda work: work(), (sha, sha)))

    return {
        "sha256": size / timed(sha) / 1e6,
        "crc32": size / timed(crc) / 1e6,
        "sha256_two_threads": 2 * size / timed(both) / 1e6,
    }


def make_image(client: Any, size: int, layers: int, folder: Path) -> None:
    """An image of incompressible layers, made without a registry."""
    parent = ""
    for number in range(layers):
        context = folder / "context.tar"
        text = f'FROM {parent or "scratch"}\nCOPY data /data{number}\nCMD ["/none"]\n'.encode()
        with tarfile.open(context, "w") as tar:
            entry = tarfile.TarInfo("Dockerfile")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text))
            entry = tarfile.TarInfo("data")
            entry.size = size // layers
            with Path("/dev/urandom").open("rb") as noise:
                tar.addfile(entry, noise)
        parent = f"bench/layer{number}:1" if number < layers - 1 else TAG
        with context.open("rb") as file:
            for line in client.build(fileobj=file, custom_context=True, tag=parent, decode=True, rm=True):
                if "error" in line:
                    raise SystemExit(line["error"])
        context.unlink()


class Saved:
    """An engine whose answer is already here: what building costs when no engine is waited for."""

    def __init__(self, images: EngineImages, archive: Path) -> None:
        self._images, self._archive = images, archive

    def facts(self, reference: str, *, pull: bool, progress: Callable[[str], None]) -> ImageFacts:
        return self._images.facts(reference, pull=pull, progress=progress)

    def save(self, reference: str) -> Iterator[bytes]:
        with self._archive.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece


def repack(classic: Path, modern: Path) -> None:
    """The same image as engines save it since 25: layers named by their digests, in the order of the names."""
    with tarfile.open(classic) as old, tarfile.open(modern, "w") as new:
        listing = json.loads(read_member(old, "manifest.json"))[0]
        config = read_member(old, listing["Config"])
        digests = [one.partition(":")[2] for one in json.loads(config)["rootfs"]["diff_ids"]]
        for digest, name in sorted(zip(digests, listing["Layers"], strict=True)):
            entry = tarfile.TarInfo(f"blobs/sha256/{digest}")
            entry.size = old.getmember(name).size
            new.addfile(entry, old.extractfile(name))
        said = {**listing, "Config": f"blobs/sha256/{listing['Config'].removesuffix('.json')}"}
        said["Layers"] = [f"blobs/sha256/{digest}" for digest in digests]
        for name, text in ((said["Config"], config), ("manifest.json", json.dumps([said]).encode())):
            entry = tarfile.TarInfo(name)
            entry.size = len(text)
            new.addfile(entry, io.BytesIO(text))


def read_member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    assert file is not None
    return file.read()


def build(source: ImageSource, output: Path) -> float:
    """Seconds until the package is on the disk under its name."""
    request = Request([NodeSpec("Bench", TAG, network="host")], output)
    return timed(lambda: PackageBuilder(request, source).build())


def write(images: EngineImages, archive: Path, output: Path) -> tuple[float, float]:
    """Seconds of building from an archive that lies ready, and of the processor."""
    os.sync()
    processor = time.process_time()
    seconds = build(Saved(images, archive), output)
    processor = time.process_time() - processor
    output.unlink()
    return seconds, processor


def stream(engine: DockerEngine) -> tuple[float, float, int]:
    """Seconds until the engine sends the first byte of the image, from then to the last, and how many bytes came."""
    buffer = bytearray(PIECE)
    with socket.socket(socket.AF_UNIX) as there:
        there.connect(engine.socket)
        began = time.monotonic()
        there.sendall(f"GET /images/{TAG}/get HTTP/1.0\r\nHost: docker\r\n\r\n".encode())
        size = there.recv_into(buffer)
        first = time.monotonic()
        while count := there.recv_into(buffer):
            size += count
    return first - began, time.monotonic() - first, size


def install(package: Path, home: Path, settings: dict[str, str]) -> dict[str, float]:
    """Seconds of verifying and of loading; the machine is left as it was."""
    command, options = Docker(settings=settings), Options(package=str(package), home=str(home))
    began = time.monotonic()
    run = Installation(options, command)
    verified = time.monotonic()
    found = run.run()
    ended = time.monotonic()
    if found["exit_code"]:
        raise SystemExit(str(found))
    uninstall(options._replace(action="uninstall"), command)
    return {"verifying": verified - began, "loading": ended - verified, "whole": ended - began}


def docker_save(engine: DockerEngine, archive: Path) -> float:
    """Seconds of `docker save` until the archive is on the disk."""
    here = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}

    def save() -> None:
        subprocess.run(["docker", "save", "-o", str(archive), TAG], check=True, env=here)
        with archive.open("rb") as file:
            os.fsync(file.fileno())

    return timed(save)


def docker_load(engine: DockerEngine, archive: Path) -> float:
    """Seconds of `docker load`; the image is removed again."""
    there = {**os.environ, "DOCKER_HOST": f"unix://{engine.socket}"}
    forget(archive)
    loading = timed(
        lambda: subprocess.run(
            ["docker", "load", "-q", "-i", str(archive)], check=True, env=there, stdout=subprocess.DEVNULL
        )
    )
    subprocess.run(["docker", "rmi", TAG], check=True, env=there, stdout=subprocess.DEVNULL)
    return loading


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m bench.packages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--megabytes", type=int, default=2000)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--times", type=int, default=2, help="builds and saves, in turns; the best of each counts")
    options = parser.parse_args()
    size = options.megabytes * 10**6
    folder = Path(tempfile.mkdtemp(prefix="curfew-packages-", dir="/tmp"))
    try:
        figures = measure(folder, size, options.layers, options.times)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report("packages", megabytes=options.megabytes, layers=options.layers, **figures)


def measure(folder: Path, size: int, layers: int, times: int) -> dict[str, Any]:
    """Every figure in MB/s of the package, and what share of the raw disk that is."""
    before = raw(folder, size)
    sums = hashing(size)
    with DockerEngine(own=True) as first, DockerEngine(own=True) as second:
        client = docker.APIClient(base_url=f"unix://{first.socket}", timeout=3600)
        make_image(client, size, layers, folder)
        package, archive = folder / "package.zip", folder / "saved.tar"
        building, saving = [], []
        for _ in range(times):  # in turns, since the engine's own copying varies most
            for path in (package, archive):
                path.unlink(missing_ok=True)
            os.sync()
            saving.append(docker_save(first, archive))
            os.sync()
            building.append(build(EngineImages(client), package))
        os.sync()
        waiting, streaming, streamed = stream(first)
        modern = folder / "modern.tar"
        repack(archive, modern)
        images, again = EngineImages(client), folder / "again.zip"
        writing, spent = min(write(images, modern, again) for _ in range(times))
        modern.unlink()
        classic, _ = min(write(images, archive, again) for _ in range(times))
        client.close()
        forget(package)
        processor = time.process_time()
        verifying = timed(lambda: verify_package(package))
        processor = time.process_time() - processor
        forget(package)
        os.sync()
        installing = install(package, folder / "home", {"DOCKER_HOST": f"unix://{second.socket}"})
        os.sync()
        loading = docker_load(second, archive)
        total = package.stat().st_size
        package.unlink()
        archive.unlink()
    os.sync()
    after = raw(folder, size)
    raw_write, raw_direct, raw_read = (size / min(pair) / 1e6 for pair in zip(before, after, strict=True))
    rates = {
        "verify": total / verifying / 1e6,
        "write_package": total / writing / 1e6,
        "write_classic": total / classic / 1e6,
        "engine_stream": streamed / streaming / 1e6,
        "build": total / min(building) / 1e6,
        "install": total / installing["whole"] / 1e6,
        "install_loading": total / installing["loading"] / 1e6,
        "docker_save_alone": total / min(saving) / 1e6,
        "docker_load_alone": total / loading / 1e6,
    }
    return {
        "package_mb": round(total / 1e6, 1),
        "hashing_mb_s": {name: round(rate) for name, rate in sums.items()},
        "raw_write_mb_s": round(raw_write),
        "raw_direct_write_mb_s": round(raw_direct),
        "raw_read_mb_s": round(raw_read),
        "mb_s": {name: round(rate) for name, rate in rates.items()},
        "verify_share_of_raw_read": round(rates["verify"] / raw_read, 2),
        "write_share_of_raw_write": round(rates["write_package"] / raw_write, 2),
        "write_share_of_raw_direct_write": round(rates["write_package"] / raw_direct, 2),
        "write_classic_share_of_raw_write": round(rates["write_classic"] / raw_write, 2),
        "write_processor_seconds": round(spent, 2),
        "engine_first_byte_seconds": round(waiting, 1),
        "docker_save_share_of_raw_write": round(rates["docker_save_alone"] / raw_write, 2),
        "build_share_of_docker_save": round(rates["build"] / rates["docker_save_alone"], 2),
        "build_seconds": [round(s, 1) for s in building],
        "docker_save_seconds": [round(s, 1) for s in saving],
        "load_share_of_docker_load": round(rates["install_loading"] / rates["docker_load_alone"], 2),
        "verify_processor_seconds": round(processor, 2),
        "load_average": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    main()
