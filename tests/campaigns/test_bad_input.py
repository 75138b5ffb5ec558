"""Bad input and bad clouds, through the HTTP interface of a live server: clear words, no secret anywhere, nothing lost.

The watched sandbox stands in AWS's place by the SDK's own variables, so what runs is the code for real accounts.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.campaigns.trial import ATTEMPTS, CONNECT, READ_TIMEOUT, Trial, problem
from tests.fakes.server import Certificates, Hangs, SaysAlways, free_port, make_certificates
from tests.live.client import Api

pytestmark = [pytest.mark.slow, pytest.mark.integration, pytest.mark.usefixtures("clean")]


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def placeholder_only(api: Api) -> None:
    """Nothing was stored: there is the placeholder of the sign-up, still pending."""
    (account,) = api.accounts()
    assert (account["status"], account["number"], account["method"]) == ("pending", "", "")


# what was typed


@pytest.mark.parametrize("which", ["secret_access_key", "access_key_id"])
def test_wrong_keys_are_refused_in_words_and_stored_nowhere(trial: Trial, which: str) -> None:
    api = trial.member()
    right = trial.cloud.keys()
    form = trial.wrong_keys()
    if which == "secret_access_key":
        form["access_key_id"] = right["access_key_id"]
    problem(trial, api.post(CONNECT, form), 422, "wrong_credentials", "does not accept these access keys")
    placeholder_only(api)


def test_a_refusal_is_audited_with_its_reason(trial: Trial) -> None:
    api = trial.member()
    problem(trial, api.post(CONNECT, trial.wrong_keys(name="Audited farm")), 422)
    assert "Audited farm" in trial.curfew.inspector.dump()
    assert trial.curfew.inspector.audit()["problems"] == []


@pytest.mark.parametrize("region", ["us-east-99", "Frankfurt", "../../etc/passwd", "us-east-1 ; rm"])
def test_a_region_that_does_not_exist_is_named_before_anybody_is_asked(trial: Trial, region: str) -> None:
    api = trial.member()
    before = len(trial.cloud.watch().calls)
    body = problem(trial, api.post(CONNECT, trial.wrong_keys(region=region)), 422, says="region")
    assert list(body["errors"]) == ["region"]
    assert len(trial.cloud.watch().calls) == before
    placeholder_only(api)


@pytest.mark.parametrize("number", ["abcdefghijkl", "12345", "1234567890123", "١٢٣٤٥٦٧٨٩٠١٢"])
def test_an_account_number_that_is_none_is_refused(trial: Trial, number: str) -> None:
    api = trial.member()
    setup = {"provider": "aws", "aws_account_id": number, "region": "us-east-1"}
    for answer in (
        api.post(CONNECT, trial.wrong_keys(aws_account_id=number)),
        api.post("/api/client/accounts/role-setup", setup),
    ):
        body = problem(trial, answer, 422, says="12 digits")
        assert list(body["errors"]) == ["aws_account_id"]


def test_keys_of_another_account_than_the_named_one_are_refused(trial: Trial) -> None:
    api = trial.member()
    right = trial.cloud.keys()
    answer = api.connect_keys(right, aws_account_id="999999999999")
    problem(trial, answer, 422, "wrong_account", "belong to AWS account")
    placeholder_only(api)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"provider": "aws", "method": "keys"',
        b"[]",
        b'"aws"',
        b"null",
        b"\xff\xfe",
        b'{"provider": {"a": 1}, "method": []}',
    ],
)
def test_a_body_that_cannot_be_read_is_a_problem_and_never_a_crash(trial: Trial, body: bytes) -> None:
    api = trial.member()
    answer = api.request("POST", CONNECT, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in {400, 422}, f"{answer.status_code} {answer.text}"
    problem(trial, answer, answer.status_code)


@pytest.mark.parametrize(
    "text", ["\x00", "a\x00b", "x" * 5000, "\ud83d".encode("utf-8", "surrogatepass").decode("utf-8", "replace")]
)
def test_odd_characters_and_lengths_are_refused_or_kept_but_never_crash(trial: Trial, text: str) -> None:
    api = trial.member()
    for field in ("name", "access_key_id", "region", "provider", "method"):
        answer = api.post(CONNECT, trial.wrong_keys(**{field: text}))
        assert answer.status_code in {400, 422}, f"{field}: {answer.status_code} {answer.text}"
        problem(trial, answer, answer.status_code)


def test_a_second_organization_cannot_claim_a_connected_account(trial: Trial) -> None:
    first, second = trial.owner(), trial.member()
    keys = trial.cloud.keys(1)
    assert first.connect_keys(keys, name="Pixel Foundry").status_code == 201
    body = problem(trial, second.connect_keys(keys), 409, "claimed", "another organization")
    assert "Pixel Foundry" not in json.dumps(body)
    assert "House" not in json.dumps(body)
    placeholder_only(second)


# roles


def _prepared(trial: Trial, api: Api) -> dict[str, str]:
    wanted = {"provider": "aws", "aws_account_id": trial.cloud.keys()["account_id"], "region": "us-east-1"}
    answer = api.post("/api/client/accounts/role-setup", wanted)
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def _connect_role(api: Api, setup: dict[str, str], **changes: str) -> httpx.Response:
    form = {
        "provider": "aws",
        "method": "role",
        "name": "By role",
        "region": "us-east-1",
        "aws_account_id": setup["role_arn"].split(":")[4],
        "role_arn": setup["role_arn"],
        "external_id": setup["external_id"],
    }
    return api.post(CONNECT, {**form, **changes})


def test_a_role_that_expects_another_external_id_is_refused(trial: Trial) -> None:
    api = trial.owner()
    setup = _prepared(trial, api)
    trial.cloud.launch_role("somebody-elses-id")
    problem(trial, _connect_role(api, setup), 422, "role_not_assumable", "external ID")


def test_an_external_id_of_another_organization_is_refused_before_the_cloud_is_asked(trial: Trial) -> None:
    api, other = trial.owner(), trial.owner()
    foreign = _prepared(trial, other)["external_id"]
    setup = _prepared(trial, api)
    before = len(trial.cloud.watch().calls)
    body = problem(trial, _connect_role(api, setup, external_id=foreign), 422)
    assert list(body["errors"]) == ["external_id"]
    assert len(trial.cloud.watch().calls) == before


def test_a_role_that_anybody_could_borrow_is_refused(trial: Trial) -> None:
    api = trial.owner()
    setup = _prepared(trial, api)
    trial.cloud.launch_role(setup["external_id"], open=True)
    problem(trial, _connect_role(api, setup), 422, "external_id_not_enforced", "without the external ID")


def test_a_revoked_role_turns_the_account_into_error_and_coming_back_mends_it(trial: Trial) -> None:
    api = trial.owner()
    setup = _prepared(trial, api)
    trial.cloud.launch_role(setup["external_id"])
    answer = _connect_role(api, setup)
    assert answer.status_code == 201, answer.text
    account = answer.json()["id"]
    assert api.scanned(account)["status"] == "active"
    nodes = {node.name for node in api.nodes()}
    assert len(nodes) >= 10

    trial.cloud.delete_role()
    assert api.post(f"/api/client/accounts/{account}/resync").status_code == 202
    revoked = _other_status(api, account, {"error"})
    assert "assume" in revoked["status_reason"]
    assert revoked["next_step"]
    assert {node.name for node in api.nodes()} == nodes, "the nodes are still known"

    trial.cloud.launch_role(setup["external_id"])
    assert api.post(f"/api/client/accounts/{account}/resync").status_code == 202
    assert _other_status(api, account, {"active"})["status_reason"] == ""
    assert api.request("DELETE", f"/api/client/accounts/{account}").status_code == 204
    trial.cloud.delete_role()


def _other_status(api: Api, account: str, wanted: set[str]) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        body: dict[str, Any] = api.get(f"/api/client/accounts/{account}/status").json()
        if body["status"] in wanted:
            return body
        time.sleep(0.2)
    raise AssertionError(f"never became {wanted}: {body}")


# what the cloud answers


def test_an_expired_token_is_called_expired(trial: Trial) -> None:
    api = trial.member()
    trial.cloud.fail(
        "GetCallerIdentity",
        code="ExpiredToken",
        message="The security token included in the request is expired",
        status=403,
        times=2,
    )
    form = {**trial.wrong_keys(), "session_token": trial.plant(secrets.token_urlsafe(60))}
    problem(trial, api.post(CONNECT, form), 422, says="expired")
    placeholder_only(api)


@pytest.mark.parametrize("body", ["html", "half"])
def test_a_cloud_that_answers_rubbish_is_said_to_do_so(trial: Trial, body: str) -> None:
    api = trial.member()
    trial.cloud.fail("GetCallerIdentity", body=body, times=ATTEMPTS)
    problem(
        trial,
        api.post(CONNECT, trial.wrong_keys()),
        503,
        "bad_answer",
        "web page or half a document|expected fields|broke off",
    )
    placeholder_only(api)


def test_clouds_that_hang_hold_up_only_those_who_asked(trial: Trial, certificates: Certificates) -> None:
    first, second, other = trial.member(), trial.member(), trial.member()
    trial.cloud.fail("GetCallerIdentity", delay=40, times=ATTEMPTS)
    with Hangs() as silent:
        forms = {first: trial.wrong_keys(), second: _docker(trial, certificates, f"127.0.0.1:{silent.port}")}
        answers, others = _meanwhile(forms, other)
    assert max(others) < 2.0, f"others waited up to {max(others):.1f} s"
    problem(trial, answers[first], 503, "timed_out", "did not answer in time")
    problem(trial, answers[second], answers[second].status_code)
    assert answers[second].status_code in {422, 503}
    for api in (first, second):
        placeholder_only(api)


def _meanwhile(forms: dict[Api, dict[str, Any]], other: Api) -> tuple[dict[Api, httpx.Response], list[float]]:
    """Connect as each of the first, at once; how long somebody else waits for ordinary answers until all are done."""
    answers: dict[Api, httpx.Response] = {}
    others = []

    def ask(api: Api, form: dict[str, Any]) -> None:
        answers[api] = api.post(CONNECT, form, timeout=60)

    threads = [threading.Thread(target=ask, args=item) for item in forms.items()]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        asked = time.monotonic()
        assert other.get("/api/client/accounts").status_code == 200
        others.append(time.monotonic() - asked)
        time.sleep(0.2)
    assert time.monotonic() - began < ATTEMPTS * READ_TIMEOUT + 8
    return answers, others


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<html><body>Sign in</body></html>", "text/html"),
        ('{"ID": "abc', "application/json"),
        ("[1, 2]", "application/json"),
    ],
    ids=["web page", "half a JSON", "other JSON"],
)
def test_a_docker_host_that_is_none_is_said_to_be_none(
    trial: Trial, certificates: Certificates, body: str, kind: str
) -> None:
    api = trial.member()
    with SaysAlways(body, kind=kind, tls=certificates.server) as liar:
        answer = api.post(CONNECT, _docker(trial, certificates, f"127.0.0.1:{liar.port}"))
    assert answer.status_code in {422, 503}, answer.text
    problem(trial, answer, answer.status_code)
    placeholder_only(api)


def test_a_docker_host_that_is_not_there_is_given_up(trial: Trial, certificates: Certificates) -> None:
    api = trial.member()
    answer = api.post(CONNECT, _docker(trial, certificates, f"127.0.0.1:{free_port()}"))
    assert answer.status_code in {422, 503}, answer.text
    problem(trial, answer, answer.status_code)
    placeholder_only(api)


def _docker(trial: Trial, certificates: Certificates, host: str) -> dict[str, str]:
    key = Path(certificates.client_key).read_text()
    trial.plant("".join(key.splitlines()[1:-1])[:60])
    for line in key.splitlines()[1:-1]:
        trial.plant(line)
    return {
        "provider": "docker",
        "method": "tls",
        "name": "Somewhere",
        "host": host,
        "ca_cert": Path(certificates.ca).read_text(),
        "client_cert": Path(certificates.client_cert).read_text(),
        "client_key": key,
    }
