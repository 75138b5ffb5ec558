"""Packages through the platform: asked for, built by a worker on a real engine, resumed, downloaded, installed here."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncRequestFactory, Client
from rest_framework.test import APIClient

from accounts.models import CloudAccount
from audit.models import AuditEntry
from cloudnodes import package_executor
from cloudnodes import package_selectors as selectors
from cloudnodes import package_services as services
from cloudnodes.package_download import send_file
from cloudnodes.packages.verify import verify_package
from core import encryption
from core.errors import Conflict, InvalidInput, InvalidState, NotFound
from operations import runner
from operations import services as operations
from operations.enums import Status
from operations.models import Operation
from tests.packages.conftest import Engine
from tests.packages.saved import digest
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.integration, pytest.mark.docker, pytest.mark.django_db]


@pytest.fixture(scope="module", autouse=True)
def _images(workshop: Engine) -> None:
    workshop.image("studio/flux-dev:1.0", ("/www/index.html", b"flux dev"), ("/weights", b"w" * 1_500_000))
    workshop.image("studio/flux-canny:1.0", ("/www/index.html", b"flux canny"))


@pytest.fixture(autouse=True)
def _folders(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT, settings.CURFEW_DATA, settings.STATIC_ROOT = tmp_path / "media", tmp_path, tmp_path


def connected(persona: Persona, engine: Engine, name: str = "Workshop") -> CloudAccount:
    account = make_account(persona.organization, provider="docker", number=name, method="local", name=name)
    account.credentials = encryption.seal({"socket": engine.socket}, bound_to=account.seal_name)
    account.save(update_fields=["credentials"])
    return account


@pytest.fixture
def account(alice: Persona, workshop: Engine) -> CloudAccount:
    return connected(alice, workshop)


IMAGES = {"FLUX Dev": "studio/flux-dev:1.0", "FLUX Canny": "studio/flux-canny:1.0"}


def run(operation: Operation) -> Operation:
    runner.run_operation(operation.id)
    operation.refresh_from_db()
    return operation


def built(alice: Persona, nodes: tuple[str, ...] = ("FLUX Dev",), **options: Any) -> selectors.Package:
    operation = run(
        services.request_package(actor=alice.actor, nodes=nodes, images={n: IMAGES[n] for n in nodes}, **options)
    )
    assert operation.status == Status.SUCCEEDED, operation.error
    return selectors.get_package(actor=alice.actor, package_id=operation.resource_id)


def test_asked_for_built_and_verified(alice: Persona, account: CloudAccount) -> None:
    package = built(alice, ("FLUX Dev", "FLUX Canny"), title="Both of them")
    assert (package.status, package.title, package.file_name) == ("ready", "Both of them", "both-of-them.zip")
    assert package.path is not None
    with zipfile.ZipFile(package.path) as archive:
        assert package.manifest_sha256 == digest(archive.read("manifest.json"))
    assert verify_package(package.path, public_key=package.public_key)["signature"] == "trusted"
    assert sorted(p.name for p in package.path.parent.iterdir()) == ["both-of-them.zip", "manifest.json"]
    verbs = AuditEntry.objects.for_org(alice.organization).values_list("verb", flat=True)
    assert {"operation.requested", "operation.succeeded"} <= set(verbs)


def test_an_upgrade_through_the_platform(alice: Persona, account: CloudAccount) -> None:
    first = built(alice)
    services.delete_package(actor=alice.actor, package_id=first.id)
    # the file is gone, its manifest is enough
    upgrade = built(alice, base_id=first.id)
    assert upgrade.omitted_layers == 3
    assert upgrade.path is not None
    assert verify_package(upgrade.path)["base"] == first.manifest_sha256


def test_killed_in_the_middle_it_goes_on(
    alice: Persona, account: CloudAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies while it writes the archive; its successor saves nothing again."""
    operation = services.request_package(actor=alice.actor, nodes=["FLUX Dev"], images={"FLUX Dev": IMAGES["FLUX Dev"]})

    class Died(BaseException):
        pass

    def die(*args: Any) -> None:
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr("cloudnodes.packages.archives.ArchiveWriter.finish", die)
        with pytest.raises(Died):
            runner.run_operation(operation.id)
    Operation.objects.all_orgs().filter(id=operation.id).update(lease_expires_at="2020-01-01T00:00:00Z")
    assert runner.reap_expired() == 1
    monkeypatch.setattr("cloudnodes.packages.images.EngineImages.save", die)
    assert run(operation).status == Status.SUCCEEDED


def test_cancelled_it_leaves_nothing(alice: Persona, account: CloudAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    operation = services.request_package(actor=alice.actor, nodes=["FLUX Dev"], images={"FLUX Dev": IMAGES["FLUX Dev"]})
    monkeypatch.setattr(package_executor, "ASK_SECONDS", 0.0)
    original = package_executor.Teller.__call__

    def cancel(self: Any, done: int, total: int, words: str) -> None:
        if done and operation.cancel_requested_at is None:
            operations.cancel_operation(actor=alice.actor, operation_id=operation.id)
        original(self, done, total, words)

    monkeypatch.setattr(package_executor.Teller, "__call__", cancel)
    assert run(operation).status == Status.CANCELLED
    folder = selectors.folder_of(alice.organization.id, operation.resource_id)
    assert list(folder.iterdir()) == []
    assert selectors.get_package(actor=alice.actor, package_id=operation.resource_id).status == "cancelled"


def test_progress_is_real(alice: Persona, account: CloudAccount, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(package_executor, "TELL_SECONDS", 0.0)
    monkeypatch.setattr("cloudnodes.packages.builder.CHUNK", 100_000)
    told: list[tuple[int, str]] = []
    original = runner.Lease.progress

    def note(self: Any, percent: int | None = None, step: str = "", **rest: Any) -> None:
        told.append((percent or 0, step))
        original(self, percent, step, **rest)

    monkeypatch.setattr(runner.Lease, "progress", note)
    built(alice)
    percents = [percent for percent, _ in told]
    assert percents == sorted(percents)
    assert any(0 < p < 60 and s.startswith("Saving studio/flux-dev:1.0 (") for p, s in told)
    assert any(s.startswith("The engine gets studio/flux-dev:1.0 ready (") for _, s in told)
    assert any(s.startswith("Writing the package (") for _, s in told)
    totals = [int(s.rpartition(" of ")[2].partition(" ")[0]) for _, s in told if " of " in s]
    assert max(totals) - min(totals) <= 1  # what is copied into its place does not count again


@pytest.mark.parametrize(
    ("nodes", "images", "field"),
    [
        ([], {}, "nodes"),
        (["SDXL"], {}, "nodes"),
        (["SDXL"], {"Other": "a:1"}, "nodes"),
        (["SDXL"], {"SDXL": "a@sha256:0"}, "nodes"),
    ],
)
def test_what_cannot_be_asked_for(
    nodes: list[str], images: dict[str, str], field: str, alice: Persona, account: CloudAccount
) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.request_package(actor=alice.actor, nodes=nodes, images=images)
    assert list(refused.value.errors) == [field]
    assert not Operation.objects.for_org(alice.organization).exists()


def test_the_engine_must_be_named_when_there_are_two(alice: Persona, account: CloudAccount, workshop: Engine) -> None:
    second = connected(alice, workshop, "Second")
    with pytest.raises(InvalidInput) as refused:
        services.request_package(actor=alice.actor, nodes=["A"], images={"A": "a:1"})
    assert "Second, Workshop" in refused.value.errors["account"][0]
    services.request_package(actor=alice.actor, nodes=["A"], images={"A": "a:1"}, account_id=second.id)


def test_an_image_that_is_not_there_fails_with_the_next_step(alice: Persona, account: CloudAccount) -> None:
    operation = run(services.request_package(actor=alice.actor, nodes=["A"], images={"A": "studio/absent:1"}))
    assert (operation.status, operation.error_code) == (Status.FAILED, "no_image")
    assert "no image studio/absent:1" in operation.error
    assert operation.next_step
    again = operations.retry_operation(actor=alice.actor, operation_id=operation.id)
    assert [p.operation.id for p in selectors.list_packages(actor=alice.actor)] == [again.id]


def test_nothing_of_others(alice: Persona, mallory: Persona, account: CloudAccount, workshop: Engine) -> None:
    package = built(alice)
    connected(mallory, workshop, "Theirs")
    assert selectors.list_packages(actor=mallory.actor) == []
    for attempt in (
        lambda: selectors.get_package(actor=mallory.actor, package_id=package.id),
        lambda: services.delete_package(actor=mallory.actor, package_id=package.id),
        lambda: services.request_install(actor=mallory.actor, package_id=package.id),
        lambda: services.request_package(actor=mallory.actor, nodes=["A"], images={"A": "a:1"}, base_id=package.id),
    ):
        with pytest.raises(NotFound):
            attempt()
    with pytest.raises(InvalidInput):
        services.request_package(actor=mallory.actor, nodes=["A"], images={"A": "a:1"}, account_id=account.id)


def test_over_the_api(alice: Persona, account: CloudAccount, api_of: Callable[[Persona], APIClient]) -> None:
    client = api_of(alice)
    body = {"nodes": ["FLUX Dev"], "images": {"FLUX Dev": "studio/flux-dev:1.0"}, "title": "One"}
    answer = client.post("/api/install-packages", body, format="json", headers={"Idempotency-Key": "k1"})
    assert answer.status_code == 202
    operation = answer.json()["operation"]
    assert answer["Location"] == f"/api/operations/{operation['id']}"
    again = client.post("/api/install-packages", body, format="json", headers={"Idempotency-Key": "k1"})
    assert again.status_code == 202, again.json()
    assert again.json()["operation"]["id"] == operation["id"]
    (listed,) = client.get("/api/install-packages").json()["results"]
    assert (listed["status"], listed["download_url"], listed["size"]) == ("building", None, None)

    run(Operation.objects.for_org(alice.organization).get(id=operation["id"]))
    found = client.get(f"/api/install-packages/{operation['resource']['id']}").json()
    assert (found["status"], found["nodes"], found["images"]) == ("ready", ["FLUX Dev"], ["studio/flux-dev:1.0"])
    content = b"".join(client.get(found["download_url"]).streaming_content)
    assert len(content) == found["size"]
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert digest(archive.read("manifest.json")) == found["manifest_sha256"]
    assert client.post("/api/install-packages", {"nodes": []}, format="json").status_code in (400, 422)

    assert client.delete(f"/api/install-packages/{found['id']}").status_code == 204
    assert client.get(found["download_url"]).status_code == 404
    assert client.get(f"/api/install-packages/{found['id']}").json()["status"] == "deleted"
    verbs = list(AuditEntry.objects.for_org(alice.organization).values_list("verb", flat=True))
    assert verbs.count("package.downloaded") == 1
    assert verbs.count("package.deleted") == 1


def test_a_download_can_go_on(alice: Persona, account: CloudAccount, client_of: Callable[[Persona], Client]) -> None:
    package = built(alice)
    assert package.path is not None
    whole = package.path.read_bytes()
    client, url = client_of(alice), f"/cloud-nodes/packages/{package.id}/download"

    def part(value: str, **headers: str) -> tuple[int, bytes, str]:
        answer = client.get(url, headers={"Range": value, **headers})
        content = b"".join(answer.streaming_content) if answer.streaming else answer.content
        return answer.status_code, content, answer.get("Content-Range", "")

    size = len(whole)
    assert part("bytes=100-199") == (206, whole[100:200], f"bytes 100-199/{size}")
    assert part(f"bytes={size - 5}-") == (206, whole[-5:], f"bytes {size - 5}-{size - 1}/{size}")
    assert part("bytes=-7")[1] == whole[-7:]
    assert part(f"bytes={size}-")[0] == 416
    assert part("bytes=-0")[0] == 416
    assert part("bytes=5-4")[0] == 416
    assert part("bytes=0-", **{"If-Range": '"another"'})[:2] == (200, whole)
    assert part("lines=1-2")[:2] == (200, whole)
    entries = AuditEntry.objects.for_org(alice.organization).filter(verb="package.downloaded")
    assert entries.count() >= 1


def test_under_asgi_it_is_streamed_in_pieces(alice: Persona, account: CloudAccount) -> None:
    package = built(alice)
    assert package.path is not None
    answer = send_file(AsyncRequestFactory().get("/"), package.path, name="x.zip", etag=package.etag)
    assert answer.is_async

    async def collect() -> list[bytes]:
        return [piece async for piece in answer.streaming_content]

    pieces = async_to_sync(collect)()
    assert len(pieces) > 1
    assert b"".join(pieces) == package.path.read_bytes()


def test_installed_on_this_machine(
    alice: Persona,
    workshop: Engine,
    station: Engine,
    client_of: Callable[[Persona], Client],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The platform runs on the workstation itself: its own engine builds and installs."""
    account = connected(alice, workshop)
    operation = services.request_package(
        actor=alice.actor, nodes=["FLUX Dev"], images={"FLUX Dev": "studio/flux-dev:1.0"}
    )
    Operation.objects.all_orgs().filter(id=operation.id).update(
        payload={**operation.payload, "nodes": [{**n, "network": "host"} for n in operation.payload["nodes"]]}
    )
    operation.refresh_from_db()
    assert run(operation).status == Status.SUCCEEDED
    account.credentials = encryption.seal({"socket": station.socket}, bound_to=account.seal_name)
    account.save(update_fields=["credentials"])

    installing = services.request_install(actor=alice.actor, package_id=operation.resource_id)
    with pytest.raises(Conflict):
        services.request_install(actor=alice.actor, package_id=operation.resource_id)
    told: list[tuple[int, str]] = []
    original = runner.Lease.progress

    def note(self: Any, percent: int | None = None, step: str = "", **rest: Any) -> None:
        told.append((percent or 0, step))
        original(self, percent, step, **rest)

    monkeypatch.setattr(package_executor, "TELL_SECONDS", 0.0)
    monkeypatch.setattr(runner.Lease, "progress", note)
    page, url = client_of(alice), f"/cloud-nodes/packages/{operation.resource_id}/"
    assert "Install here" not in page.get(url).content.decode()  # it is under way
    assert run(installing).status == Status.SUCCEEDED, installing.error
    verified = max(p for p, step in told if step.startswith("Verifying ("))
    assert verified == 50
    loading = [p for p, step in told if step.startswith("Loading studio/flux-dev:1.0 (")]
    assert (min(loading) >= 50, max(loading)) == (True, 100)
    shown = page.get(url).content.decode()
    assert "left stopped, without a GPU" in shown
    assert installing.result["nodes"][0]["endpoint"] in shown
    assert "Install here again" in shown
    # the new container is looked for at once
    assert Operation.objects.for_org(alice.organization).filter(kind="account.scan", resource_id=account.id).exists()
    assert [c["Names"] for c in station.client.containers(all=True)] == [["/curfew-flux-dev"]]
    assert installing.result["nodes"][0]["result"] == "installed"
    services.delete_package(actor=alice.actor, package_id=operation.resource_id)
    with pytest.raises(InvalidState):
        services.request_install(actor=alice.actor, package_id=operation.resource_id)


def test_a_node_that_fails_here_is_named_beside_those_that_did_not(
    alice: Persona, workshop: Engine, client_of: Callable[[Persona], Client]
) -> None:
    """Somebody else's container has the name of one node: the page says which, why, and that the other is there."""
    connected(alice, workshop)
    package = built(alice, ("FLUX Dev", "FLUX Canny"))
    workshop.client.create_container("studio/flux-dev:1.0", name="curfew-flux-dev")
    try:
        installing = run(services.request_install(actor=alice.actor, package_id=package.id))
        assert installing.status == Status.FAILED
        shown = client_of(alice).get(f"/cloud-nodes/packages/{package.id}/").content.decode()
        assert installing.result == {}
        assert "curfew-flux-dev" in shown
        assert "left stopped, without a GPU" in shown
        found = selectors.last_installation(actor=alice.actor, package_id=package.id)
        assert found is not None
        assert {n.name: n.failed for n in found.nodes} == {"FLUX Dev": True, "FLUX Canny": False}
    finally:
        for name in ("curfew-flux-dev", "curfew-flux-canny"):
            workshop.client.remove_container(name, force=True)


def test_the_pages(alice: Persona, bob: Persona, account: CloudAccount, client_of: Callable[[Persona], Client]) -> None:
    from cloudnodes.models import NodeType
    from core import clock

    NodeType.objects.for_org(alice.organization).create(
        organization=alice.organization, name="FLUX Dev", slug="flux-dev", created_at=clock.now()
    )
    client, url = client_of(alice), "/cloud-nodes/packages/"
    shown = client.get(url).content.decode()
    assert "No package yet" in shown
    assert 'value="flux-dev"' in shown
    assert 'placeholder="nvcr.io/nim/nim-flux-dev:latest"' in shown

    answer = client.post(url, {"account": str(account.id)})
    assert answer.status_code == 422
    assert "Choose at least one node." in answer.content.decode()
    answer = client.post(url, {"account": str(account.id), "nodes": ["flux-dev"]})
    assert (answer.status_code, "No image is known for FLUX Dev" in answer.content.decode()) == (422, True)
    assert "--image" not in answer.content.decode()
    assert 'name="pull" class="form-check-input" id="id_pull" checked' in re.sub(
        r' aria-describedby="[^"]*"', "", shown
    )
    answer = client.post(
        url, {"account": str(account.id), "nodes": ["flux-dev"], "image-flux-dev": "studio/flux-dev:1.0", "sign": "on"}
    )
    assert answer.status_code == 302
    page = client.get(answer["Location"]).content.decode()
    assert "Waiting for its turn" in page
    assert "data-waking" in page

    operation = Operation.objects.for_org(alice.organization).get(kind=selectors.KIND)
    run(operation)
    page = client.get(answer["Location"]).content.decode()
    assert "python3 install.py --package flux-dev.zip --public-key " in page
    assert "Install here" in page
    assert f"/cloud-nodes/packages/{operation.resource_id}/download" in client.get(url).content.decode()
    viewer = client_of(bob).get(answer["Location"]).content.decode()
    assert "Delete the file" not in viewer
    assert "Download" not in viewer


def test_parts_of_nobody_are_removed_after_a_week(alice: Persona, tmp_path: Path) -> None:
    import os
    import time

    root = tmp_path / "media" / "packages" / "org"
    for name, age in (("old", 8), ("young", 6)):
        parts = root / name / "x.zip.parts"
        parts.mkdir(parents=True)
        (parts / "blob-1").write_bytes(b"x")
        then = time.time() - age * 24 * 3600
        os.utime(parts / "blob-1", (then, then))
        (root / name / "kept.zip").write_bytes(b"x")
    services.discard_stale()
    assert sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()) == [
        "old/kept.zip",
        "young/kept.zip",
        "young/x.zip.parts/blob-1",
    ]


def test_the_package_in_the_archive_is_what_the_page_says(alice: Persona, account: CloudAccount) -> None:
    package = built(alice)
    assert package.path is not None
    with zipfile.ZipFile(package.path) as archive:
        assert json.loads(archive.read("manifest.json"))["title"] == package.title
