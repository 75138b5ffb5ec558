"""Every operation of the API with what its schema allows and with what it forbids, from those who may and those who may not.

    python -m tests.campaigns.api_fuzz --examples 100 --seed 1

Callers: the owner of the organization, the owner of another one who also replays this one's ids, nobody, and somebody
with forged credentials. A finding is an answer of 500 or more, an answer without a body that its type promises, a
stranger's answer with anything of the organization in it that was not in the question, or a success for nobody. Every
request is undone, and the network is closed: what an operation wants to call outside is refused at once. Prints one
line of JSON; exit code 1 with findings.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import hypothesis
import requests
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

if TYPE_CHECKING:
    from tests.access.matrix import World

CALLERS = ("owner", "stranger", "nobody", "forged")
FORGED = ("Bearer not.a.token", "Bearer cfk_00000000000000000000000000000000", "Basic YTpi", "Bearer \u00e9", "Bearer")
PUBLIC = ("/auth/", "/client/auth/", "/install/", "/kube/", "/charts")


class Fuzz:
    """One run: counts, and findings as `METHOD path (caller, mode): what`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.statuses: Counter[int] = Counter()
        self.findings: dict[str, str] = {}
        ours = {**world.ids, "organization": str(world.alice.organization.id), "person": world.alice.email}
        self.ours = {name: value for name, value in ours.items() if name != "theirs" and len(value) > 20}
        self.ids = [value for value in world.ids.values() if value]

    def ask(self, case: Any, caller: str, mode: str, dice: random.Random) -> None:
        """Send one case as a caller, undo it, and judge the answer."""
        from django.db import transaction

        if case.path_parameters and dice.random() < 0.7:  # else it would hardly ever name something that exists
            case.path_parameters = {name: dice.choice(self.ids) for name in case.path_parameters}
        kwargs = case.as_transport_kwargs(base_url="http://testserver")
        try:
            asked = requests.Request(**{k: v for k, v in kwargs.items() if k in _REQUEST}).prepare()
        except (requests.RequestException, UnicodeError, ValueError):
            return  # no client could send it
        label = f"{case.operation.method.upper()} {case.operation.path}"
        with transaction.atomic():
            try:
                status, text = self._send(asked, caller, dice)
            except Exception:
                self.findings[f"{label} ({caller}, {mode})"] = traceback.format_exc(limit=-4)
                return
            finally:
                transaction.set_rollback(True)
        self.statuses[status] += 1
        problem = self._judge(asked, caller, status, text)
        if problem:
            self.findings.setdefault(
                f"{label} ({caller}, {mode})", f"{problem}: {asked.url} {asked.body!r:.300} {text:.400}"
            )

    def _send(self, asked: requests.PreparedRequest, caller: str, dice: random.Random) -> tuple[int, str]:
        from django.test import Client

        client = Client(raise_request_exception=False)
        headers = {f"HTTP_{k.upper().replace('-', '_')}": v for k, v in asked.headers.items() if k not in _OWN_HEADERS}
        if caller in {"owner", "stranger"}:
            person = self.world.alice if caller == "owner" else self.world.mallory
            client.force_login(person.user)
        elif caller == "forged":
            headers["HTTP_AUTHORIZATION"] = dice.choice(FORGED)
        path, _, query = str(asked.path_url).partition("?")
        body = asked.body if isinstance(asked.body, bytes) else (asked.body or "").encode("utf-8", "surrogatepass")
        answer = client.generic(
            str(asked.method),
            requests.utils.unquote(path),
            body,
            content_type=asked.headers.get("Content-Type", "application/json"),
            QUERY_STRING=query,
            **headers,
        )
        return answer.status_code, answer.getvalue().decode("utf-8", "replace")

    def _judge(self, asked: requests.PreparedRequest, caller: str, status: int, text: str) -> str:
        if status >= 500 and status != 503:
            return f"answered {status}"
        if caller != "owner":
            question = f"{asked.url} {asked.body!r}"
            leaked = [name for name, value in self.ours.items() if value in text and value not in question]
            if leaked:
                return f"names our {leaked}"
        if caller in {"nobody", "forged"} and status < 300 and not any(p in str(asked.url) for p in PUBLIC):
            return f"answered {status} without credentials"
        return ""


_REQUEST = frozenset({"method", "url", "headers", "params", "json", "data", "cookies", "files"})
_OWN_HEADERS = frozenset({"Content-Length", "Content-Type", "Host", "Authorization", "Cookie"})


@contextlib.contextmanager
def no_network() -> Iterator[None]:
    """Nothing leaves this process: names do not resolve and connections are refused."""
    resolve = socket.getaddrinfo

    def numbers_only(host: Any, *args: Any, **more: Any) -> Any:
        more["flags"] = socket.AI_NUMERICHOST
        return resolve(host, *args, **more)

    def refuse(*args: Any, **more: Any) -> Any:
        raise ConnectionRefusedError("the network is closed for this test")

    with (
        mock.patch.object(socket.socket, "connect", refuse),
        mock.patch.object(socket, "create_connection", refuse),
        mock.patch.object(socket, "getaddrinfo", numbers_only),
    ):
        yield


def schema() -> Any:
    """The schema that the server publishes, as schemathesis takes it."""
    import schemathesis  # loads much, and most runs leave this campaign out
    from drf_spectacular.generators import SchemaGenerator

    return schemathesis.openapi.from_dict(
        json.loads(json.dumps(SchemaGenerator().get_schema(request=None, public=True)))
    )


def campaign(world: World, examples: int, seed: int) -> Fuzz:
    """`examples` cases of each operation in each mode, each from one caller by turns."""
    from schemathesis import GenerationMode

    fuzz = Fuzz(world)
    dice = random.Random(seed)
    with no_network():
        for found in schema().get_all_operations():
            operation = found.ok()
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                try:
                    strategy = operation.as_strategy(generation_mode=mode)
                    _run(fuzz, strategy, mode.value, examples, seed, dice)
                except hypothesis.errors.Unsatisfiable:
                    continue  # nothing can be wrong about an operation that takes nothing
    return fuzz


def _run(fuzz: Fuzz, strategy: Any, mode: str, examples: int, seed: int, dice: random.Random) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(strategy, st.sampled_from(CALLERS))
    def one(case: Any, caller: str) -> None:
        fuzz.ask(case, caller, mode, dice)

    one()


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.campaigns.api_fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--examples", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    from bench.support import setup_django

    setup_django(CURFEW_NO_WORKER="1", CURFEW_STATIC_FROM_SOURCE="1")
    from django.conf import settings

    from core import live
    from tests.access import matrix
    from tests.access.matrix import World
    from tests.personas import make_organization, make_person

    live._send = lambda group, message: None  # type: ignore[assignment]
    settings.SECURE_SSL_REDIRECT = False
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    alice = make_person("alice", make_organization("Larkspur"), "owner")
    world = World(
        alice,
        make_person("bob", alice.organization, "viewer"),
        make_person("olga", alice.organization, "operator"),
        make_person("mallory", make_organization("Harbour"), "owner"),
    )
    for build in matrix.builders():
        build(world)
    began = time.monotonic()
    fuzz = campaign(world, options.examples, options.seed)
    result = {
        "requests": fuzz.statuses.total(),
        "statuses": dict(sorted(fuzz.statuses.items())),
        "findings": fuzz.findings,
        "seconds": round(time.monotonic() - began, 1),
    }
    sys.stdout.write(json.dumps(result) + "\n")
    return 1 if fuzz.findings else 0


if __name__ == "__main__":
    sys.exit(main())
