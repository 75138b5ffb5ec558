"""Operations over HTTP, in the shape that every 202 has."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest
from rest_framework.test import APIClient

from operations import runner
from operations.api.serializers import OperationSerializer
from operations.api.shapes import operation_shape
from operations.models import Operation
from operations.registry import OperationFailed, RunContext
from tests.operations.conftest import Bell, ring
from tests.personas import Persona

pytestmark = pytest.mark.django_db
ApiOf = Callable[[Persona], APIClient]


def failed(persona: Persona, bell: Bell, **fields: object) -> Operation:
    def does(context: RunContext) -> None:
        raise OperationFailed("The rope broke.", code="rope", next_step="Buy a rope.")

    bell.does = does
    operation = ring(persona, **fields)
    runner.run_operation(operation.id)
    return operation


def test_the_shape(alice: Persona, api_of: ApiOf, bell: Bell) -> None:
    operation = failed(alice, bell, reason="noon")
    body = api_of(alice).get(f"/api/operations/{operation.id}").json()
    assert body.keys() == OperationSerializer().fields.keys()
    assert body["status"] == "failed"
    assert body["error"] == {"code": "rope", "message": "The rope broke.", "next_step": "Buy a rope."}
    assert body["resource"] == {"kind": "bell", "id": str(operation.resource_id), "label": "the great bell"}
    assert body["created_at"].endswith("Z")
    assert body["finished_at"].endswith("Z")
    assert (body["can_retry"], body["can_cancel"], body["reason"]) == (True, False, "noon")


def test_a_fresh_one_has_no_error_and_no_invented_time(alice: Persona, bell: Bell) -> None:
    body = operation_shape(ring(alice))
    assert (body["error"], body["expected_seconds"], body["seconds_left"], body["started_at"], body["finished_at"]) == (
        None,
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize("prefix", ["/api", "/api/v1"])
def test_list_filters_and_pages(alice: Persona, api_of: ApiOf, bell: Bell, prefix: str) -> None:
    first = failed(alice, bell)
    queued = [ring(alice, resource_label=f"bell {n}") for n in range(3)]
    api = api_of(alice)
    body = api.get(f"{prefix}/operations").json()
    assert (body["count"], body["next"], body["previous"]) == (4, None, None)
    assert [r["id"] for r in body["results"]] == [str(o.id) for o in reversed([first, *queued])]
    assert api.get(f"{prefix}/operations?status=active").json()["count"] == 3
    assert api.get(f"{prefix}/operations?status=failed").json()["results"][0]["id"] == str(first.id)
    assert api.get(f"{prefix}/operations?resource={first.resource_id}").json()["count"] == 1
    assert api.get(f"{prefix}/operations?search=bell+1").json()["count"] == 1
    assert api.get(f"{prefix}/operations?ordering=created").json()["results"][0]["id"] == str(first.id)
    page = api.get(f"{prefix}/operations?page_size=3&page=2").json()
    assert (len(page["results"]), page["next"]) == (1, None)


@pytest.mark.parametrize("query", ["?status=odd", "?ordering=magic", "?resource=7", "?page_size=0", "?page_size=999"])
def test_bad_input_is_a_problem(alice: Persona, api_of: ApiOf, bell: Bell, query: str) -> None:
    response = api_of(alice).get(f"/api/operations{query}")
    assert (response.status_code, response["Content-Type"]) == (422, "application/problem+json")
    assert response.json()["errors"]


def test_cancel_answers_202_with_its_place(alice: Persona, api_of: ApiOf, bell: Bell) -> None:
    operation = ring(alice)
    response = api_of(alice).post(f"/api/operations/{operation.id}/cancel")
    assert (response.status_code, response["Location"]) == (202, f"/api/operations/{operation.id}")
    assert response.json()["operation"]["status"] == "cancelled"
    again = api_of(alice).post(f"/api/operations/{operation.id}/cancel")
    assert (again.status_code, again.json()["code"]) == (409, "invalid_state")


def test_retry_honours_the_idempotency_key(alice: Persona, api_of: ApiOf, bell: Bell) -> None:
    operation = failed(alice, bell)
    api = api_of(alice)
    first = api.post(f"/api/operations/{operation.id}/retry", headers={"Idempotency-Key": "k1"})
    again = api.post(f"/api/operations/{operation.id}/retry", headers={"Idempotency-Key": "k1"})
    assert (first.status_code, again.status_code) == (202, 202)
    new = UUID(first.json()["operation"]["id"])
    assert (again.json()["operation"]["id"], first.json()["operation"]["retry_of"]) == (str(new), str(operation.id))
    without = api.post(f"/api/operations/{operation.id}/retry")
    assert (without.status_code, without.json()["operation"]) == (409, str(new))


def test_who_may(alice: Persona, bob: Persona, mallory: Persona, api_of: ApiOf, bell: Bell) -> None:
    operation = failed(alice, bell)
    path = f"/api/operations/{operation.id}"
    assert api_of(bob).get(path).status_code == 200
    assert api_of(bob).post(f"{path}/retry").status_code == 403
    assert api_of(bob).post(f"{path}/cancel").status_code == 403
    for answer in (
        api_of(mallory).get(path),
        api_of(mallory).post(f"{path}/retry"),
        api_of(mallory).post(f"{path}/cancel"),
    ):
        assert answer.status_code == 404
    assert api_of(mallory).get("/api/operations").json()["count"] == 0
    assert APIClient().get(path).status_code == 401
    assert api_of(alice).get(f"/api/operations/{uuid4()}").status_code == 404
