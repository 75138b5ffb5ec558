"""Against the real sandbox server: boto3 over HTTP, by keys and by role, through its restart."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from django.test import Client

from accounts import sandbox, services, vault
from accounts.models import CloudAccount
from core.errors import Conflict
from core.providers import AuthenticationFailed, InvalidRequest
from tests.personas import Persona, make_organization, make_person

pytestmark = [pytest.mark.integration, pytest.mark.django_db]


class Server:
    """The sandbox as a child process on a port of its own, so that it can be restarted at the same address."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process: subprocess.Popen[str] | None = None
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-u", "-m", "cloudnodes.sandbox.aws_server", "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == str(self.port)

    def stop(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGTERM)
        self.process.wait(20)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(autouse=True)
def _offered(server: Server, settings: object, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = f"http://127.0.0.1:{server.port}"
    monkeypatch.setattr(sandbox, "_known", {})
    monkeypatch.setattr(sandbox, "_stacks", set())


@pytest.mark.parametrize("method", ["keys", "role"])
def test_one_click_connects_and_speaks(method: str, alice: Persona) -> None:
    row = services.connect_sandbox(actor=alice.actor, method=method)
    assert (row.is_sandbox, row.number, row.method, row.status) == (True, "111111111111", method, "scanning")
    assert vault.connection_of(row).verify().account_number == "111111111111"


def test_the_next_organization_gets_the_next_account_until_none_is_free(alice: Persona, mallory: Persona) -> None:
    third = make_person("carol", make_organization("Quarry"), "owner")
    assert [services.connect_sandbox(actor=p.actor).number for p in (alice, mallory)] == [
        "111111111111",
        "222222222222",
    ]
    with pytest.raises(Conflict) as refused:
        services.connect_sandbox(actor=third.actor)
    assert refused.value.code == "sandbox_full"


def test_it_is_one_click_in_the_wizard(alice: Persona, client_of: Callable[[Persona], Client]) -> None:
    browser = client_of(alice)
    assert "Try the sandbox" in browser.get("/welcome").content.decode()
    answer = browser.post("/welcome/sandbox", {"method": "keys"})
    row = CloudAccount.objects.for_org(alice.organization).get()
    assert answer["Location"] == f"/welcome/done/{row.id}"
    assert "Sandbox" in browser.get(answer["Location"]).content.decode()


@pytest.mark.parametrize("method", ["keys", "role"])
def test_it_goes_on_after_the_sandbox_was_restarted(
    method: str, alice: Persona, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = services.connect_sandbox(actor=alice.actor, method=method)
    stored = vault.credentials_of(row)
    server.stop()
    server.start()
    with pytest.raises(AuthenticationFailed):
        vault.connect_with(stored, is_sandbox=True).verify()
    monkeypatch.setattr(sandbox, "FRESH_SECONDS", 0.0)
    assert vault.connection_of(row).verify().account_number == "111111111111"


def by_hand(persona: Persona, monkeypatch: pytest.MonkeyPatch, **asked: object) -> CloudAccount:
    """Connect through the form's own service, pointed at the sandbox."""
    real = vault.build
    monkeypatch.setattr(vault, "build", lambda *args, **kw: real(*args, **{**kw, "is_sandbox": True}))
    connect = vault.connect_with
    monkeypatch.setattr(
        vault, "connect_with", lambda credentials, **kw: connect(credentials, **{**kw, "is_sandbox": True})
    )
    return services.connect_account(actor=persona.actor, provider="aws", region="us-east-1", **asked)


def test_wrong_keys_are_refused_in_clear_words(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "wrong/wrong/wrong/wrong/wrong/wrong/wron"}
    with pytest.raises(AuthenticationFailed) as refused:
        by_hand(alice, monkeypatch, method="keys", values=values)
    said = f"{refused.value.message} {refused.value.next_step} {refused.value.detail}"
    assert not [v for v in values.values() if v in said]


def test_a_stack_is_launched_then_verified(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = services.prepare_role(actor=alice.actor, aws_account_id="111111111111", region="us-east-1")
    with pytest.raises(AuthenticationFailed) as refused:
        by_hand(
            alice,
            monkeypatch,
            method="role",
            values={"aws_account_id": "111111111111", "external_id": setup.external_id},
        )
    assert refused.value.code == "role_not_assumable"
    sandbox.launch_stack(external_id=setup.external_id, number="111111111111")
    row = by_hand(
        alice, monkeypatch, method="role", values={"aws_account_id": "111111111111", "external_id": setup.external_id}
    )
    assert (row.id, row.status) == (setup.account.id, "scanning")


def test_a_stack_with_another_external_id_is_refused(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = services.prepare_role(actor=alice.actor, aws_account_id="111111111111", region="us-east-1")
    sandbox.launch_stack(external_id="somebody-elses", number="111111111111")
    with pytest.raises(AuthenticationFailed):
        by_hand(
            alice,
            monkeypatch,
            method="role",
            values={"aws_account_id": "111111111111", "external_id": setup.external_id},
        )


def test_keys_of_another_account_than_the_one_named(alice: Persona, monkeypatch: pytest.MonkeyPatch) -> None:
    account = sandbox.facts().account("222222222222")
    values = {
        "aws_account_id": "111111111111",
        "access_key_id": account.access_key_id,
        "secret_access_key": account.secret_access_key,
    }
    with pytest.raises(InvalidRequest) as refused:
        by_hand(alice, monkeypatch, method="keys", values=values)
    assert refused.value.code == "wrong_account"
