"""Routes of install packages."""

from __future__ import annotations

from dataclasses import replace

from cloudnodes import package_selectors as selectors
from core.actor import Actor
from operations.enums import Status
from operations.services import finish, request_operation
from tests.access.matrix import Route, World, api, page
from tests.personas import make_account


def build(world: World) -> None:
    """One finished package with its file, and a Docker engine."""
    from uuid import uuid4

    organization = world.alice.organization
    engine = make_account(
        organization, provider="docker", number="ENGINE", method="local", credentials="sealed", name="Workshop"
    )
    system = Actor.system("tests", organization.id)
    package_id = uuid4()
    payload = {
        "account": str(engine.id),
        "nodes": [{"name": "FLUX Dev", "image": "studio/flux-dev:1.0"}],
        "title": "FLUX Dev",
        "file_name": "flux-dev.zip",
        "base": "",
        "pull": False,
        "sign": True,
    }
    operation = request_operation(
        actor=system,
        kind=selectors.KIND,
        resource_kind=selectors.RESOURCE,
        resource_id=package_id,
        resource_label="FLUX Dev",
        payload=payload,
    )
    finish(operation, Status.SUCCEEDED, result={"size": 3, "sha256": "0" * 64, "images": ["studio/flux-dev:1.0"]})
    folder = selectors.folder_of(organization.id, package_id)
    folder.mkdir(parents=True)
    (folder / "flux-dev.zip").write_bytes(b"zip")
    world.ids.update(package=str(package_id), engine=str(engine.id))


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


NEW = {"nodes": ["SDXL"], "images": {"SDXL": "studio/sdxl:1"}, "account": "{engine}"}
ROUTES = [
    page("/cloud-nodes/packages/"),
    _post(
        "/cloud-nodes/packages/",
        403,
        403,
        302,
        422,
        {"other_name": "SDXL", "other_image": "studio/sdxl:1", "account": "{engine}"},
    ),
    page("/cloud-nodes/packages/{package}/", stranger=404),
    page("/cloud-nodes/packages/{package}/download", viewer=403, operator=200, stranger=404),
    _post("/cloud-nodes/packages/{package}/install", 403, 403, 302, 404),
    replace(_post("/cloud-nodes/packages/{package}/delete", 403, 403, 302, 404), lasting=True),
    api("GET", "/api/install-packages", viewer=200, operator=200, owner=200, stranger=200),
    api("POST", "/api/install-packages", viewer=403, operator=403, owner=202, stranger=422, body=NEW),
    api("GET", "/api/install-packages/{package}", viewer=200, operator=200, owner=200, stranger=404),
    api("GET", "/api/install-packages/{package}/download", viewer=403, operator=200, owner=200, stranger=404),
    replace(
        api("DELETE", "/api/install-packages/{package}", viewer=403, operator=403, owner=204, stranger=404),
        lasting=True,
    ),
]
