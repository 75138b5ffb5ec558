"""Orders to a cloud that falters or refuses, through the HTTP interface of a live server: carried out once, or ended in words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.campaigns.trial import ATTEMPTS, Trial, problem
from tests.live.client import Api

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.usefixtures("clean")]

FALTERS: dict[str, dict[str, Any]] = {
    "a web page": {"body": "html"},
    "half an answer": {"body": "half"},
    "throttled": {"code": "RequestLimitExceeded", "status": 503},
    "a fault of AWS": {"code": "InternalError", "status": 500},
}
REFUSES: dict[str, tuple[dict[str, Any], str]] = {
    "no right": ({"code": "UnauthorizedOperation", "status": 403}, "permission"),
    "keys withdrawn": ({"code": "AuthFailure", "status": 401}, "access keys"),
    "no capacity": ({"code": "InsufficientInstanceCapacity", "status": 500}, "capacity"),
    "quota": ({"code": "VcpuLimitExceeded", "status": 400}, "limit"),
}


class Farm:
    """An organization with a scanned account whose nodes all sleep."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.api: Api = trial.owner()
        answer = self.api.connect_keys(trial.cloud.keys(), name="Farm")
        assert answer.status_code == 201, answer.text
        self.account = str(answer.json()["id"])
        assert self.api.scanned(self.account)["status"] == "active"

    def sleeping(self, count: int) -> list[str]:
        """Names of so many nodes that sleep."""
        names = [
            node.name for node in self.api.nodes() if node.provider == "aws" and self.states(node.name)[-1] == "stopped"
        ]
        return names[:count]

    def states(self, name: str) -> list[str]:
        """What the provider says the node did, from the beginning."""
        return [change["to"] for change in self.trial.cloud.watch().changes if change["name"] == name]

    def fail(self, name: str, times: int, fault: dict[str, Any]) -> None:
        """Let the next starts of one node fail at the provider."""
        instance = next(change["instance"] for change in self.trial.cloud.watch().changes if change["name"] == name)
        self.trial.cloud.fail("StartInstances", times=times, match={"InstanceId.1": instance}, **fault)

    def start(self, name: str) -> str:
        """Order a start; the operation's id."""
        answer = self.api.switch("start", name)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["operation"]["id"])


@pytest.fixture(scope="module")
def farm(trial: Trial) -> Farm:
    return Farm(trial)


def test_orders_survive_a_cloud_that_falters_and_are_carried_out_once(farm: Farm) -> None:
    nodes = dict(zip(FALTERS, farm.sleeping(len(FALTERS)), strict=True))
    before = {name: farm.states(name).count("pending") for name in nodes.values()}
    for how, name in nodes.items():
        farm.fail(name, ATTEMPTS, FALTERS[how])
    orders = {how: farm.start(name) for how, name in nodes.items()}
    for how, operation_id in orders.items():
        operation = farm.api.ended(operation_id)
        assert operation["status"] == "succeeded", (how, operation)
        assert farm.states(nodes[how]).count("pending") == before[nodes[how]] + 1, how


def test_final_refusals_end_orders_in_words_and_another_try_works(farm: Farm) -> None:
    nodes = dict(zip(REFUSES, farm.sleeping(len(REFUSES)), strict=True))
    for how, name in nodes.items():
        farm.fail(name, ATTEMPTS, REFUSES[how][0])
    failed = {
        how: farm.api.ended(operation)
        for how, operation in {how: farm.start(name) for how, name in nodes.items()}.items()
    }
    shown = {node.name: node.facts for node in farm.api.nodes()}
    for how, operation in failed.items():
        assert operation["status"] == "failed", (how, operation)
        assert REFUSES[how][1] in operation["error"]["message"], operation["error"]
        assert operation["error"]["next_step"], how
        assert shown[nodes[how]]["error"], how
        assert farm.states(nodes[how])[-1] == "stopped"
    farm.trial.cloud.heal()
    for how, operation in failed.items():
        again = farm.api.post(f"/api/operations/{operation['id']}/retry")
        assert again.status_code == 202, (how, again.text)
        assert farm.api.ended(again.json()["operation"]["id"])["status"] == "succeeded", how
        assert farm.states(nodes[how])[-1] == "running"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"provider": "aws"},
        {"provider": "aws", "instance_name": "nobody"},
        {"provider": "moon", "instance_name": "flux"},
        {"provider": ["aws"], "instance_name": {"a": 1}},
        {"provider": "aws", "instance_name": "\x00"},
        {"provider": "aws", "instance_name": "' OR 1=1 --"},
        {"provider": "aws", "instance_name": "x" * 100_000},
    ],
)
def test_an_order_for_nothing_known_is_refused(farm: Farm, body: dict[str, Any]) -> None:
    answer = farm.api.post("/budgetguard/api/cloud-nodes/start", body)
    assert answer.status_code in {400, 404, 422}, f"{answer.status_code} {answer.text}"
    problem(farm.trial, answer, answer.status_code)
