"""The pages of node templates: list, slide-over, live check, star, clone, delete, Karpenter."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from audit.models import AuditEntry
from policies import services
from policies.models import NodeTemplate
from tests.personas import Persona

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
GENERAL = {
    "name": "Production general",
    "families": ["m5", "c5", "r5"],
    "architectures": ["amd64"],
    "excluded_sizes": ["nano", "micro"],
    "purchasing": "spot",
    "strategy": "capacity_optimized",
    "disk_type": "gp3",
    "disk_gib": "100",
    "image": "al2023@latest",
}
HX = {"HX-Request": "true"}


def make(person: Persona, name: str = "General", **values: object) -> NodeTemplate:
    return services.save_template(actor=person.actor, values={"name": name, "families": ["m5"], **values})


def names(person: Persona) -> list[str]:
    rows = NodeTemplate.objects.for_org(person.organization).order_by("name")
    return [f"{row.name}{'*' if row.is_default else ''}" for row in rows]


def test_a_template_is_made_in_the_slide_over_and_comes_into_the_list(alice: Persona, client_of: Callable) -> None:
    client = client_of(alice)
    assert "No node template yet" in client.get("/node-templates/").content.decode()
    made = client.post("/node-templates/new", GENERAL, headers=HX)
    assert (made.status_code, made["HX-Retarget"]) == (200, "#templates-grid")
    text = made.content.decode()
    assert 'id="templates-grid"' in text
    assert "<html" not in text
    for words in ("Production general", "m5", "x86_64", "Spot", "gp3 (100 GB)", "not nano, micro"):
        assert words in text
    assert names(alice) == ["Production general*"]
    entry = AuditEntry.objects.for_org(alice.organization).get(verb="node_template.created")
    assert entry.target_label == "Production general"


def test_without_scripts_it_is_a_page_and_a_redirect(alice: Persona, client_of: Callable) -> None:
    client = client_of(alice)
    assert "Create a node template" in client.get("/node-templates/new").content.decode()
    made = client.post("/node-templates/new", GENERAL)
    assert (made.status_code, made["Location"]) == (302, "/node-templates/")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": ""}, "Give it a name"),
        ({"name": "general"}, "There is a template called general already"),
        ({"families": ["g4dn"], "architectures": ["arm64"]}, "No instance type is left"),
        ({"families": ["<script>"]}, "is not a family such as m5"),
        ({"disk_gib": "0"}, "greater than or equal to 1"),
        ({"disk_type": "gp3", "disk_gib": "20000"}, "gp3 disks are 1 to 16384 GiB large"),
        ({"disk_gib": "many"}, "Enter a whole number"),
        ({"purchasing": "stolen"}, "One of spot, on_demand, hybrid"),
        ({"image": "windows2022@latest"}, "A Linux image of EKS"),
        ({"more_groups": "sg-1; drop"}, "is not the id of a security group"),
        ({"account_id": "0f8fad5b-d9cb-469f-a165-70867728950e"}, "not one of the available choices"),
    ],
)
def test_what_cannot_be_saved_is_said_and_what_was_typed_stays(
    change: dict, words: str, alice: Persona, client_of: Callable
) -> None:
    make(alice)
    answer = client_of(alice).post("/node-templates/new", {**GENERAL, "description": "Ask Ann", **change}, headers=HX)
    text = answer.content.decode()
    assert answer.status_code == 422
    assert words in text
    assert "Ask Ann" in text
    assert names(alice) == ["General*"]


def test_the_check_tells_of_names_conflicts_and_prices_while_typing(alice: Persona, client_of: Callable) -> None:
    make(alice, "GPU")
    asked = {**GENERAL, "name": "gpu", "architectures": ["arm64"], "families": ["g4dn", "m6g"]}
    text = client_of(alice).post("/node-templates/check", asked, headers=HX).content.decode()
    assert "There is a template called gpu already" in text
    assert "Instance type g4dn is incompatible with ARM64" in text
    assert "Avg. spot price" in text
    assert "an estimate" in text
    assert NodeTemplate.objects.for_org(alice.organization).count() == 1


def test_a_region_without_prices_says_no_price(alice: Persona, client_of: Callable) -> None:
    text = client_of(alice).post("/node-templates/check", {**GENERAL, "region": "eu-north-1"}).content.decode()
    assert "No price" in text


def test_the_star_moves_and_there_is_never_more_than_one(alice: Persona, client_of: Callable) -> None:
    make(alice, "First")
    second = make(alice, "Second")
    client = client_of(alice)
    for _ in range(2):
        answer = client.post(f"/node-templates/{second.id}/default", headers=HX)
        assert answer.status_code == 200
    assert names(alice) == ["First", "Second*"]
    moves = AuditEntry.objects.for_org(alice.organization).filter(verb="node_template.made_default")
    assert [entry.changes["default"] for entry in moves.order_by("seq")] == [[None, "First"], ["First", "Second"]]


def test_clones_get_free_names_and_never_the_star(alice: Persona, client_of: Callable) -> None:
    row = make(alice, excluded_sizes=["nano"], labels={"team": "render"})
    client = client_of(alice)
    for _ in range(2):
        client.post(f"/node-templates/{row.id}/clone", headers=HX)
    assert names(alice) == ["General*", "General copy", "General copy 2"]
    copy = NodeTemplate.objects.for_org(alice.organization).get(name="General copy")
    assert (copy.excluded_sizes, copy.labels) == (["nano"], {"team": "render"})


def test_search_and_pills_narrow_the_list(alice: Persona, client_of: Callable) -> None:
    make(alice, "Batch")
    make(alice, "Databases", purchasing="on_demand")
    client = client_of(alice)
    text = client.get("/node-templates/?search=batch", headers=HX).content.decode()
    assert "Batch" in text
    assert "Databases" not in text
    text = client.get("/node-templates/?buying=on_demand", headers=HX).content.decode()
    assert "Databases" in text
    assert ">Batch<" not in text


def test_an_edit_keeps_what_the_form_does_not_show(alice: Persona, client_of: Callable) -> None:
    row = make(alice, labels={"team": "render"}, zones=["us-east-1a"], weight=50)
    client_of(alice).post(f"/node-templates/{row.id}/", {**GENERAL, "name": "General"}, headers=HX)
    row.refresh_from_db()
    assert (row.labels, row.zones, row.weight, row.families) == (
        {"team": "render"},
        ["us-east-1a"],
        50,
        ["m5", "c5", "r5"],
    )


def test_a_viewer_looks_and_does_not_touch(alice: Persona, bob: Persona, client_of: Callable) -> None:
    row = make(alice)
    client = client_of(bob)
    assert "Create New Template" not in client.get("/node-templates/").content.decode()
    assert "disabled" in client.get(f"/node-templates/{row.id}/").content.decode()
    for path in ("", "clone", "default", "delete"):
        assert client.post(f"/node-templates/{row.id}/{path}", GENERAL).status_code == 403
    assert names(alice) == ["General*"]


@pytest.mark.parametrize("count", [1, 3])
def test_the_list_asks_the_same_number_of_questions(
    count: int, alice: Persona, client_of: Callable, django_assert_num_queries: Callable
) -> None:
    for number in range(count):
        make(alice, f"Template {number}")
    client = client_of(alice)
    client.get("/node-templates/")
    with django_assert_num_queries(BUDGET):
        assert client.get("/node-templates/", headers=HX).status_code == 200


BUDGET = 5
