"""The commands as people and scripts call them, against real engines."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from tests.packages.conftest import Engine
from tests.packages.saved import digest
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.integration, pytest.mark.docker]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", autouse=True)
def _images(workshop: Engine) -> None:
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"))
    workshop.image("studio/flux-canny:1.0", ("/www/index.html", b"flux canny"))


@pytest.fixture(autouse=True)
def _here(workshop: Engine, settings: Any, tmp_path: Path) -> None:
    settings.CURFEW_DOCKER_HOST = f"unix://{workshop.socket}"
    settings.CURFEW_DATA = tmp_path


def create(output: Path, *arguments: str, capsys: Any) -> dict[str, Any]:
    call_command("create_install_package", "--output", str(output), "--json", "--no-pull", *arguments)
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


BOTH = (
    "--nodes",
    "FLUX Dev, FLUX Canny",
    "--image",
    "FLUX Dev=studio/flux-dev:1.0",
    "--image",
    "flux canny=studio/flux-canny:1.0",
)


@pytest.mark.django_db
def test_create_and_verify(tmp_path: Path, capsys: Any) -> None:
    found = create(tmp_path / "p.zip", *BOTH, "--sign", "--verify", capsys=capsys)
    assert found["nodes"] == ["FLUX Canny", "FLUX Dev"]
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        assert found["manifest_sha256"] == digest(archive.read("manifest.json"))
    with pytest.raises(SystemExit) as ended:
        call_command_line(
            "install_package",
            "verify",
            "--package",
            str(tmp_path / "p.zip"),
            "--public-key",
            found["public_key"],
            "--json",
        )
    assert ended.value.code == 0
    assert json.loads(capsys.readouterr().out)["package"]["signature"] == "trusted"


def call_command_line(*argv: str) -> None:
    from django.core.management import execute_from_command_line

    execute_from_command_line(["manage.py", *argv])


def test_endpoints_and_credentials_are_listed(alice: Persona, tmp_path: Path, capsys: Any) -> None:
    from cloudnodes import services

    account = make_account(alice.organization, credentials="sealed")
    seen = Instance(
        "i-1",
        "flux-dev",
        "us-east-1",
        "us-east-1a",
        "g5.xlarge",
        InstanceState.RUNNING,
        endpoint="http://10.0.0.5:8000",
        node_type="FLUX Dev",
        gpu_tier="a10g",
        labels_source="tags",
    )
    services.sync_discovered(account=account, instances=[seen])
    CloudNode.objects.for_org(alice.organization).update(endpoint="http://10.0.0.5:8000")
    create(tmp_path / "p.zip", *BOTH, capsys=capsys)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        config = json.loads(archive.read("budgetguard_artists_config.json"))
    assert config["nim_endpoints"]["FLUX Dev"]["aws"] == [{"url": "http://10.0.0.5:8000", "gpu_tier": "a10g"}]
    assert config["credentials_status"] == {"aws": True, "azure": False, "gcp": False}
    assert "sealed" not in (tmp_path / "p.zip").read_bytes().decode("latin-1")


@pytest.mark.django_db
def test_a_node_is_known_by_its_label(workshop: Engine, tmp_path: Path, capsys: Any) -> None:
    container = workshop.client.create_container(
        "studio/flux-dev:1.0",
        labels={"curfew.node-type": "FLUX Labelled", "curfew.port": "9000"},
        host_config=workshop.client.create_host_config(network_mode="host"),
    )
    try:
        create(tmp_path / "p.zip", "--nodes", "flux labelled", capsys=capsys)
    finally:
        workshop.client.remove_container(container["Id"])
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        (node,) = json.loads(archive.read("manifest.json"))["nodes"]
    assert (node["image"], node["container_port"], node["environment"]) == (
        "studio/flux-dev:1.0",
        9000,
        {"NIM_MODEL": "flux labelled"},
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--nodes", "SDXL"), "unknown_node"),
        (("--nodes", "SDXL", "--image", "SDXL=studio/absent:1"), "no_image"),
        (("--nodes", "SDXL", "--image", "Other=a:1"), "unknown_node"),
        (("--nodes", ","), "no_nodes"),
        ((*BOTH, "--base", "/etc/hostname"), "bad_base"),
        ((*BOTH, "--sign-key", "/etc/hostname"), "bad_key"),
        ((*BOTH, "--catalog", "/etc/hostname"), "bad_catalog"),
    ],
)
def test_what_cannot_be_built_is_said(arguments: tuple[str, ...], code: str, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(CommandError) as refused:
        create(tmp_path / "p.zip", *arguments, capsys=capsys)
    assert refused.value.returncode == 1
    assert json.loads(capsys.readouterr().out)["error"]["code"] == code
    assert not (tmp_path / "p.zip").exists()


@pytest.mark.django_db
def test_an_engine_that_is_down(settings: Any, tmp_path: Path, capsys: Any) -> None:
    settings.CURFEW_DOCKER_HOST = "unix:///nowhere.sock"
    with pytest.raises(CommandError):
        create(tmp_path / "p.zip", *BOTH, capsys=capsys)
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "unreachable"


@pytest.mark.django_db
def test_a_catalog_says_everything(tmp_path: Path, capsys: Any) -> None:
    listed = [
        {
            "name": "FLUX Dev",
            "image": "studio/flux-dev:1.0",
            "port": 9100,
            "network": "host",
            "gpu": False,
            "credentials": ["HF_TOKEN"],
            "environment": {"NIM_MODEL_VARIANT": "base"},
        }
    ]
    (tmp_path / "nodes.json").write_text(json.dumps(listed))
    create(tmp_path / "p.zip", "--nodes", "flux-dev", "--catalog", str(tmp_path / "nodes.json"), capsys=capsys)
    with zipfile.ZipFile(tmp_path / "p.zip") as archive:
        (node,) = json.loads(archive.read("manifest.json"))["nodes"]
        assert "nodes/flux-dev/compose.gpu.yml" not in archive.namelist()
    assert (node["port"], node["credentials"], node["environment"]) == (
        9100,
        ["HF_TOKEN"],
        {"NIM_MODEL_VARIANT": "base"},
    )


@pytest.mark.django_db
def test_the_old_name_installs_without_django(workshop: Engine, station: Engine, tmp_path: Path, capsys: Any) -> None:
    create(tmp_path / "p.zip", *BOTH, "--network", "host", capsys=capsys)
    before = station.remains()

    def techops(*arguments: str) -> subprocess.CompletedProcess[str]:
        # -S: none of our packages can be imported
        return subprocess.run(
            [sys.executable, "-S", str(ROOT / "budgetguard_techops.py"), *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            env={**station.environment, "HOME": str(tmp_path)},
        )

    done = techops("install-package", "--package", "./p.zip", "--json")
    assert done.returncode == 0, done.stderr
    assert [n["result"] for n in json.loads(done.stdout)["nodes"]] == ["installed", "installed"]
    assert (tmp_path / ".curfew-local/installed.json").exists()
    assert techops("install-package", "uninstall").returncode == 0
    assert station.remains() == before
    assert techops("something").returncode == 2


def test_the_old_name_hands_over_with_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import budgetguard_techops

    given: list[list[str]] = []
    monkeypatch.setattr(budgetguard_techops.os, "execv", lambda program, command: given.append(command))
    monkeypatch.chdir(tmp_path)
    budgetguard_techops.main(["create-install-package", "--nodes", "FLUX Dev", "--output", "./p.zip", "--base=old.zip"])
    assert given == [
        [
            sys.executable,
            str(ROOT / "curfew"),
            "manage",
            "create_install_package",
            "--nodes",
            "FLUX Dev",
            "--output",
            str(tmp_path / "p.zip"),
            f"--base={tmp_path / 'old.zip'}",
        ]
    ]
