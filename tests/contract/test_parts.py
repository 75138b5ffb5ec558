"""The small parts that providers share: redaction, errors, labels, the readiness probe."""

from __future__ import annotations

import copy
import re
from dataclasses import asdict
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloudnodes.providers.base import node_type_slug
from cloudnodes.providers.labels import curfew_labels
from cloudnodes.providers.probe import probe_endpoint
from core.providers import ERROR_CLASSES, MASK, PermissionDenied, ProviderError, Throttled, redact
from tests.fakes.aws import ROOT
from tests.fakes.server import Answer, FakeServer, Hangs, Request, SaysAlways, free_port

pytestmark = pytest.mark.unit


class TestRedact:
    @pytest.mark.parametrize(
        ("text", "secret"),
        [
            ("key AKIAIOSFODNN7EXAMPLE refused", "AKIAIOSFODNN7EXAMPLE"),
            ("session ASIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"),
            ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
            ('{"client_secret": "Xy8Q~abc"}', "Xy8Q~abc"),
            ("grant_type=x&client_secret=Xy8Q~abc&scope=y", "Xy8Q~abc"),
            ("password = hunter2hunter2", "hunter2hunter2"),
            ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
            ("-----BEGIN RSA PRIVATE KEY-----\nMIIEvQ cut off", "MIIEvQ"),
            ("https://user:pa55word@host/x", "pa55word"),
            ("https://b.s3.amazonaws.com/x?X-Amz-Signature=deadbeef&X-Amz-Credential=AKIAX/2026", "deadbeef"),
            ("token ya29.a0AfH6SMBxxxxxxxxxxxx", "a0AfH6SMBxxxxxxxxxxxx"),
            ("'SecretAccessKey': 'wJalrXUtnFEMI'", "wJalrXUtnFEMI"),
        ],
    )
    def test_what_looks_like_a_secret_goes(self, text: str, secret: str) -> None:
        assert secret not in redact(text)
        assert MASK in redact(text)

    @pytest.mark.parametrize(
        "text",
        [
            "The role arn:aws:iam::111111111111:role/CurfewAccess was deleted.",
            "InsufficientInstanceCapacity: no g5.xlarge in us-east-1a",
            "The client secret has expired.",
            "Missing: external id.",
            "https://portal.azure.com/path?x=1",
        ],
    )
    def test_ordinary_words_stay(self, text: str) -> None:
        assert redact(text) == text

    @given(st.text(min_size=6, max_size=60).filter(lambda s: s.strip() and MASK not in s and s not in MASK))
    def test_known_values_go_in_every_spelling(self, secret: str) -> None:
        from urllib.parse import quote, quote_plus

        for spelt in (secret, quote(secret, safe=""), quote_plus(secret)):
            assert spelt not in redact(f"before <{spelt}> after", [secret]).replace(MASK, "")

    def test_short_values_do_not_blank_out_words(self) -> None:
        assert redact("it is in eu", ["eu", ""]) == "it is in eu"


class TestErrors:
    def test_every_kind_survives_storage_and_copying(self) -> None:
        for name, cls in ERROR_CLASSES.items():
            error = cls(detail="said the provider")
            assert error.to_dict()["kind"] == name
            for other in (ProviderError.from_dict(error.to_dict()), copy.deepcopy(error)):
                assert type(other) is cls
                assert asdict(other) == asdict(error)
            assert error.message
            assert error.message.endswith(".")

    @pytest.mark.parametrize("cls", ERROR_CLASSES.values(), ids=lambda cls: str(cls.__name__))
    def test_the_next_step_is_for_a_person(self, cls: type[ProviderError]) -> None:
        assert not re.search("by itself|nothing to do", cls().next_step, re.IGNORECASE)

    def test_extra_fields_survive(self) -> None:
        assert ProviderError.from_dict(Throttled(retry_after=4.5).to_dict()).to_dict()["retry_after"] == 4.5
        assert (
            ProviderError.from_dict(PermissionDenied(permission="ec2:X").to_dict()).to_dict()["permission"] == "ec2:X"
        )

    def test_an_unknown_kind_from_a_newer_version(self) -> None:
        error = ProviderError.from_dict({"kind": "Hibernating", "message": "Zzz.", "code": "z", "newer": 1})
        assert (type(error), error.message) == (ProviderError, "Zzz.")

    def test_texts_are_redacted_and_bounded(self) -> None:
        error = ProviderError("no AKIAIOSFODNN7EXAMPLE", detail="x" * 5000)
        assert "AKIA" not in str(error) + repr(error)
        assert len(error.detail) == 1000


class TestLabels:
    @pytest.mark.parametrize(
        ("labels", "host", "endpoint", "health"),
        [
            ({}, "", "", ""),
            ({}, "1.2.3.4", "1.2.3.4", ""),
            ({"curfew:port": "8000"}, "1.2.3.4", "http://1.2.3.4:8000", "tcp://1.2.3.4:8000"),
            (
                {"curfew:port": "8000", "curfew:health-path": "v1/health/ready"},
                "h",
                "http://h:8000",
                "http://h:8000/v1/health/ready",
            ),
            ({"curfew:port": "8000", "curfew:health-port": "9"}, "h", "http://h:8000", "tcp://h:9"),
            (
                {"curfew:endpoint": "https://n.example/x", "curfew:health-path": "/h"},
                "1.2.3.4",
                "https://n.example/x",
                "https://n.example/h",
            ),
            ({"curfew:endpoint": "n.example:81"}, "", "http://n.example:81", "tcp://n.example:81"),
            ({"curfew:port": "99999"}, "h", "h", ""),
            ({"curfew:port": "8000"}, "2001:db8::1", "http://[2001:db8::1]:8000", "tcp://[2001:db8::1]:8000"),
            ({"curfew:endpoint": "http://h:notaport/"}, "", "http://h:notaport/", ""),
        ],
    )
    def test_addresses(self, labels: dict[str, str], host: str, endpoint: str, health: str) -> None:
        own = curfew_labels(labels, ":")
        assert own.endpoint(host) == endpoint
        assert own.health_endpoint(endpoint) == health

    @pytest.mark.parametrize(
        ("text", "cost"),
        [("0.526", Decimal("0.526")), ("", None), ("free", None), ("-1", None), ("NaN", None), ("1e9", None)],
    )
    def test_hourly_cost(self, text: str, cost: Decimal | None) -> None:
        assert curfew_labels({"curfew.hourly-cost": text}, ".").hourly_cost == cost

    def test_labels_of_others_are_ignored(self) -> None:
        assert curfew_labels({"curfewx:node-type": "a", "node-type": "b", "curfew.node-type": "c"}, ":").node_type == ""
        assert curfew_labels(None, ":").node_type == ""

    def test_one_node_type_in_the_spelling_of_each_cloud(self) -> None:
        assert {node_type_slug(t) for t in ("FLUX Dev", "flux-dev", "flux_dev", " Flux  Dev ")} == {"flux-dev"}


class TestProbe:
    def test_answers(self) -> None:
        with SaysAlways("ready") as service:
            assert probe_endpoint(f"{service.url}/health?deep=1") is True
            assert probe_endpoint(f"tcp://127.0.0.1:{service.port}") is True
            assert service.log[0].path == "/health"
            assert service.log[0].query == {"deep": "1"}

    @pytest.mark.parametrize("status", [404, 500, 503])
    def test_does_not_answer_well(self, status: int) -> None:
        with SaysAlways("no", status=status) as service:
            assert probe_endpoint(service.url) is False

    def test_redirects_are_not_followed(self) -> None:
        class Redirects(FakeServer):
            def answer(self, request: Request) -> Answer:
                return Answer(302, "", {"Location": f"{self.url}/secret"})

        with Redirects() as service:
            assert probe_endpoint(service.url) is True
            assert [r.path for r in service.log] == ["/"]

    def test_nobody_there_or_nobody_speaks(self) -> None:
        assert probe_endpoint(f"tcp://127.0.0.1:{free_port()}") is False
        assert probe_endpoint("http://no-such-host.invalid/") is False
        with Hangs() as silent:
            assert probe_endpoint(silent.url, timeout=0.3) is False

    @pytest.mark.parametrize(
        "address",
        [
            "",
            "ftp://h/x",
            "file:///etc/passwd",
            "tcp://h",
            "http://h:notaport/",
            "http://169.254.169.254/latest/meta-data/",
            "http://[fe80::1]/",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0:1/",
        ],
    )
    def test_what_is_never_asked(self, address: str) -> None:
        assert probe_endpoint(address) is None


def test_importing_providers_loads_no_sdk_and_no_django() -> None:
    import subprocess
    import sys

    script = (
        "import sys, accounts.providers.registry, accounts.providers.aws, accounts.providers.azure, accounts.providers.gcp\n"
        "import accounts.providers.docker, accounts.providers.aws_template, cloudnodes.providers.registry\n"
        "import cloudnodes.providers.aws, cloudnodes.providers.azure, cloudnodes.providers.gcp, cloudnodes.providers.docker\n"
        "heavy = {'django', 'celery', 'boto3', 'botocore', 'azure', 'google', 'docker', 'requests'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (found.stdout, found.stderr) == ("[]\n", "")
