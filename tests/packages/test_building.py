"""Building without an engine: what goes in, what comes out, and that the same comes out every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from cloudnodes.packages.archives import ArchiveWriter
from cloudnodes.packages.builder import Built, PackageBuilder, Request
from cloudnodes.packages.format import NodeSpec, PackageProblem, check_nodes, with_tag
from cloudnodes.packages.signing import load_or_create_key, public_hex
from cloudnodes.packages.spool import Spooled
from cloudnodes.packages.upgrade import read_base
from cloudnodes.packages.verify import verify_package
from tests.packages.saved import SavedImages, digest, layer

pytestmark = pytest.mark.unit
DEV = NodeSpec(
    "FLUX Dev", "studio/flux-dev:1.0", gpu_tier="a10g", health_path="/v1/health/ready", credentials=("NGC_API_KEY",)
)
CANNY = NodeSpec("FLUX Canny", "studio/flux-canny:1.0", environment={"NIM_MODEL": 'FLUX $Canny "quoted"'})


def images(**options: Any) -> SavedImages:
    shared = layer(1)
    return SavedImages(
        {"studio/flux-dev:1.0": [shared, layer(2)], "studio/flux-canny:1.0": [shared, layer(3), layer(3)]}, **options
    )


def build(
    output: Path, source: SavedImages | None = None, nodes: tuple[NodeSpec, ...] = (DEV, CANNY), **options: Any
) -> Built:
    return PackageBuilder(Request(nodes, output, **options), source or images()).build()


def test_what_is_inside(tmp_path: Path) -> None:
    built = build(
        tmp_path / "p.zip",
        endpoints={"FLUX Dev": {"aws": [{"url": "http://10.0.0.5:8000", "gpu_tier": "a10g"}]}},
        credentials_status={"aws": True, "azure": False},
    )

    with zipfile.ZipFile(built.path) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
        config = json.loads(archive.read("budgetguard_artists_config.json"))
        manifest = json.loads(archive.read("manifest.json"))
    layers, rest = names[:3], [n for n in names[3:] if not n.startswith(("images/", "nodes/"))]
    assert rest == [
        "install.py",
        "README.txt",
        "budgetguard_artists_config.json",
        "manifest.json",
        "manifest.sha256",
    ]
    assert [n for n in names if n.startswith("nodes/")] == [
        "nodes/flux-canny/compose.yml",
        "nodes/flux-canny/compose.gpu.yml",
        "nodes/flux-dev/compose.yml",
        "nodes/flux-dev/compose.gpu.yml",
    ]
    # image by image, by digest; the shared layer and the one that occurs twice are there once
    assert layers == [
        *sorted(f"layers/{digest(layer(i))}.tar" for i in (1, 3)),
        f"layers/{digest(layer(2))}.tar",
    ]
    assert not any(n.startswith("layers/") for n in names[3:])
    assert config == {
        "version": "1.0",
        "generated_at": "2026-01-02T03:04:05Z",
        "credentials_status": {"aws": True, "azure": False},
        "nim_endpoints": {
            "FLUX Canny": {"local": [{"url": "http://localhost:8001", "gpu_tier": "local"}]},
            "FLUX Dev": {
                "aws": [{"url": "http://10.0.0.5:8000", "gpu_tier": "a10g"}],
                "local": [{"url": "http://localhost:8002", "gpu_tier": "a10g"}],
            },
        },
    }
    assert manifest["nodes"][1]["credentials"] == ["NGC_API_KEY"]
    assert built.size == built.path.stat().st_size
    assert not (tmp_path / "p.zip.parts").exists()
    assert verify_package(built.path)["sha256"] == built.manifest_sha256


def test_compose_files(tmp_path: Path) -> None:
    built = build(tmp_path / "p.zip")
    with zipfile.ZipFile(built.path) as archive:
        files = {name: yaml.safe_load(archive.read(name)) for name in archive.namelist() if name.endswith(".yml")}
    service = files["nodes/flux-dev/compose.yml"]["services"]["flux-dev"]
    assert service["image"] == "${CURFEW_IMAGE:-studio/flux-dev:1.0}"
    assert service["ports"] == ["${CURFEW_PORT:-8002}:8000"]
    assert service["environment"] == {"CURFEW_PROFILE": "cpu", "NGC_API_KEY": None}
    assert "deploy" not in service
    # a dollar sign of a value is not a variable of compose
    assert (
        files["nodes/flux-canny/compose.yml"]["services"]["flux-canny"]["environment"]["NIM_MODEL"]
        == 'FLUX $$Canny "quoted"'
    )
    devices = files["nodes/flux-dev/compose.gpu.yml"]["services"]["flux-dev"]["deploy"]["resources"]["reservations"][
        "devices"
    ]
    assert devices == [{"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}]


@pytest.mark.parametrize(
    "other",
    [{"clock": 1_700_000_000}, {"layout": "blobs"}, {"layout": "oci"}],
    ids=["later", "today's engine", "an engine with containerd's store"],
)
def test_a_rebuild_has_the_same_bytes(tmp_path: Path, other: dict[str, Any]) -> None:
    key = load_or_create_key(tmp_path / "key.pem")
    first = build(tmp_path / "one.zip", key=key)
    again = build(tmp_path / "two.zip", images(**other), nodes=(CANNY, DEV), key=key)
    assert first.path.read_bytes() == again.path.read_bytes()


def test_it_does_not_depend_on_the_process(tmp_path: Path) -> None:
    """Another process, another hash seed, another place: the same bytes."""
    code = (
        "import sys; from pathlib import Path; from tests.packages.test_building import build;"
        "import hashlib; print(hashlib.sha256(build(Path(sys.argv[1])).path.read_bytes()).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / seed / "p.zip")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path.cwd(),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert found == {digest(build(tmp_path / "p.zip").path.read_bytes()) + "\n"}


def test_a_broken_build_goes_on(tmp_path: Path) -> None:
    source = images(fail_after=100_000)
    source.images["studio/flux-dev:1.0"].append(layer(4, 300_000))
    with pytest.raises(ConnectionError):
        build(tmp_path / "p.zip", source)
    assert not (tmp_path / "p.zip").exists()
    assert source.saves == ["studio/flux-canny:1.0", "studio/flux-dev:1.0"]

    source.fail_after, source.saves = None, []
    built = build(tmp_path / "p.zip", source)
    # what was whole was not saved again
    assert source.saves == ["studio/flux-dev:1.0"]
    source.saves = []
    assert built.path.read_bytes() == build(tmp_path / "fresh.zip", source).path.read_bytes()


def test_stopping_by_progress_keeps_the_parts(tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    seen: list[tuple[int, int]] = []

    def progress(done: int, total: int, words: str) -> None:
        seen.append((done, total))
        if words == "Saving studio/flux-dev:1.0":
            raise Stopped

    request = Request((DEV, CANNY), tmp_path / "p.zip")
    source = images()
    with pytest.raises(Stopped):
        PackageBuilder(request, source, progress).build()
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert all(done <= total for done, total in seen)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["p.zip.parts"]
    source.saves = []
    PackageBuilder(request, source).build()
    assert source.saves == ["studio/flux-dev:1.0"]


def test_a_damaged_part_is_noticed_and_saved_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy, spoilt = ArchiveWriter.add_file, []

    def spoil(self: ArchiveWriter, path: str, found: Spooled, progress: Any) -> None:
        if not spoilt:
            spoilt.append(path)
            found.path.write_bytes(b"!" + found.path.read_bytes()[1:])
        copy(self, path, found, progress)

    monkeypatch.setattr(ArchiveWriter, "add_file", spoil)
    builder = PackageBuilder(Request((DEV,), tmp_path / "p.zip"), images())
    with pytest.raises(PackageProblem) as refused:
        builder.build()
    assert refused.value.code == "spool_damaged"
    assert builder.build().path.read_bytes() == build(tmp_path / "q.zip", nodes=(DEV,)).path.read_bytes()


def test_layers_of_todays_engines_are_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copied: list[str] = []
    monkeypatch.setattr(ArchiveWriter, "add_file", lambda self, path, *rest: copied.append(path))
    built = build(tmp_path / "p.zip", images(layout="blobs"))
    monkeypatch.undo()
    assert copied == []
    assert built.path.read_bytes() == build(tmp_path / "q.zip").path.read_bytes()


def test_a_layer_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    source = images(layout="blobs")
    good = source.archive

    def spoilt(reference: str) -> bytes:
        return good(reference).replace(layer(2)[600:640], b"?" * 40)

    source.archive = spoilt  # type: ignore[method-assign]
    with pytest.raises(PackageProblem) as refused:
        build(tmp_path / "p.zip", source)
    assert refused.value.code == "bad_save"
    source.archive = good  # type: ignore[method-assign]
    assert build(tmp_path / "p.zip", source).path.read_bytes() == build(tmp_path / "q.zip").path.read_bytes()


@pytest.mark.parametrize("harm", ["flip", "cut"])
def test_a_damaged_archive_is_noticed_when_the_build_goes_on(tmp_path: Path, harm: str) -> None:
    """What a killed build left may have suffered from a power cut: it is read again before it gets its name."""

    class Stopped(Exception):
        pass

    def stop(done: int, total: int, words: str) -> None:
        if words == "Saving studio/flux-dev:1.0":
            raise Stopped

    source = images(layout="blobs")
    request = Request((DEV, CANNY), tmp_path / "p.zip")
    with pytest.raises(Stopped):
        PackageBuilder(request, source, stop).build()
    half = tmp_path / "p.zip.parts" / "package"
    data = half.read_bytes()
    half.write_bytes(data[:40_000] + b"!" + data[40_001:] if harm == "flip" else data[:-1])
    if harm == "flip":
        with pytest.raises(PackageProblem) as refused:
            PackageBuilder(request, source).build()
        assert refused.value.code == "spool_damaged"
        assert not request.output.exists()
    built = PackageBuilder(request, source).build()
    assert built.path.read_bytes() == build(tmp_path / "q.zip").path.read_bytes()


def test_only_one_build_at_a_time(tmp_path: Path) -> None:
    request = Request((DEV,), tmp_path / "p.zip")

    def second(done: int, total: int, words: str) -> None:
        with pytest.raises(PackageProblem) as refused:
            PackageBuilder(request, images()).build()
        assert refused.value.code == "busy"

    PackageBuilder(request, images(), second).build()


def test_an_upgrade_brings_only_what_is_new(tmp_path: Path) -> None:
    big, source = layer(9, 2_000_000), images()
    source.images = {"studio/flux-dev:1.0": [layer(1), big, layer(2)], "studio/flux-dev:1.1": [layer(1), big, layer(5)]}
    first = build(tmp_path / "one.zip", source, (DEV,))
    newer = (NodeSpec("FLUX Dev", "studio/flux-dev:1.1"),)
    full = build(tmp_path / "full.zip", source, newer)
    upgrade = build(tmp_path / "up.zip", source, newer, base=read_base(first.path))
    assert upgrade.omitted == 2
    assert upgrade.size < 0.2 * full.size
    assert verify_package(upgrade.path)["base"] == first.manifest_sha256
    # an upgrade of the upgrade, from the kept manifest alone
    with zipfile.ZipFile(upgrade.path) as archive:
        (tmp_path / "kept.json").write_bytes(archive.read("manifest.json"))
    assert build(tmp_path / "up2.zip", source, newer, base=read_base(tmp_path / "kept.json")).omitted == 3


def test_signatures(tmp_path: Path) -> None:
    key = load_or_create_key(tmp_path / "key.pem")
    assert load_or_create_key(tmp_path / "key.pem").private_bytes_raw() == key.private_bytes_raw()
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    built = build(tmp_path / "p.zip", key=key)
    assert verify_package(built.path)["signature"] == "valid"
    assert verify_package(built.path, public_key=public_hex(key))["signature"] == "trusted"
    assert verify_package(build(tmp_path / "q.zip").path)["signature"] == "unsigned"


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ((), "no_nodes"),
        ((DEV, NodeSpec("flux dev", "a:1")), "same_name"),
        ((NodeSpec("...", "a:1"),), "bad_name"),
        ((NodeSpec("a", "a@sha256:00"),), "bad_reference"),
        ((NodeSpec("a", "-rm:1"),), "bad_reference"),
        ((NodeSpec("a", "a:1", environment={"NGC_API_KEY": "nvapi-123"}),), "secret_in_clear"),
        ((NodeSpec("a", "a:1", gpu_environment={"DB_PASSWORD": "x"}),), "secret_in_clear"),
        ((NodeSpec("a", "a:1", port=9000), NodeSpec("b", "b:1", port=9000)), "same_port"),
        ((NodeSpec("a", "a:1", network="other"),), "bad_network"),
    ],
)
def test_what_no_package_may_hold(nodes: tuple[NodeSpec, ...], code: str) -> None:
    with pytest.raises(PackageProblem) as refused:
        check_nodes(nodes)
    assert refused.value.code == code


def test_names_that_only_sound_like_secrets_are_fine() -> None:
    node = NodeSpec("a", "a:1", environment={"KEYBOARD": "de", "NIM_MODEL": "x", "API_KEY": ""})
    assert check_nodes([node])[0].environment["KEYBOARD"] == "de"


def test_secrets_baked_into_an_image_are_pointed_out(tmp_path: Path) -> None:
    class Leaky(SavedImages):
        def facts(self, reference: str, **rest: Any) -> Any:
            import dataclasses

            return dataclasses.replace(super().facts(reference, **rest), secret_variables=("HF_TOKEN",))

    built = build(tmp_path / "p.zip", Leaky(images().images), (DEV,))
    assert built.warnings == [
        "studio/flux-dev:1.0 has HF_TOKEN set inside the image itself: whoever gets the package can read it."
    ]


def test_tags() -> None:
    assert with_tag("nvcr.io:5000/nim/x") == "nvcr.io:5000/nim/x:latest"
    assert with_tag("x:2") == "x:2"


def test_mixed_platforms_are_refused(tmp_path: Path) -> None:
    class Mixed(SavedImages):
        def facts(self, reference: str, **rest: Any) -> Any:
            self.architecture = "arm64" if "canny" in reference else "amd64"
            return super().facts(reference, **rest)

    with pytest.raises(PackageProblem) as refused:
        build(tmp_path / "p.zip", Mixed(images().images))
    assert refused.value.code == "mixed_platforms"
