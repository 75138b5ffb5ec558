"""What connecting an account promises: a verified identity, or clear words without a secret in them."""

from __future__ import annotations

import dataclasses
import json
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from accounts.providers.base import Connection, Credentials, Identity, Timeouts
from accounts.providers.registry import PROVIDERS, connect, secret_fields
from core.providers import (
    AuthenticationFailed,
    BadAnswer,
    InvalidRequest,
    NotFound,
    PermissionDenied,
    ProviderError,
    Throttled,
    TimedOut,
    Unreachable,
)
from tests.contract import connections as to
from tests.fakes.arm import CLIENT, SUBSCRIPTION, FakeArm, arm_error
from tests.fakes.aws import SandboxAws
from tests.fakes.dockerd import DockerEngine
from tests.fakes.gcp import EMAIL, PROJECT, FakeCloudRun, google_error, private_key, service_account_key
from tests.fakes.server import HTML, Certificates, Hangs, SaysAlways, free_port

pytestmark = pytest.mark.integration
HALF = '{"subscriptionId": "5b1f0a52-3f0e-4b8e'


def refused(connection: Connection, kind: type[ProviderError], code: str) -> ProviderError:
    """Verify, expect `kind` with `code`, and check what holds for every refusal."""
    with pytest.raises(ProviderError) as caught:
        connection.verify()
    error = caught.value
    assert (type(error), error.code) == (kind, code), f"{error!r}"
    assert error.message.endswith(".")
    assert error.next_step.endswith(".")
    shown = json.dumps(error.to_dict()) + repr(error) + str(error) + repr(connection.credentials)
    for secret in connection.credentials.secrets():
        assert secret not in shown
    assert error.__cause__ is None, "the SDK's exception, which may hold secrets, must not travel along"
    assert (
        pickle.loads(pickle.dumps(error)).to_dict()
        == error.to_dict()
        == ProviderError.from_dict(error.to_dict()).to_dict()
    )
    return error


class TestAws:
    def test_keys_give_the_account(self, aws: SandboxAws) -> None:
        assert to.aws_keys(aws).verify() == Identity(
            "111111111111", "northlight-studio", "arn:aws:iam::111111111111:user/curfew-demo"
        )

    def test_role_gives_the_account(self, aws: SandboxAws) -> None:
        aws.launch_role("curfew-7d1f0c2b9a")
        assert to.aws_role(aws).verify() == Identity(
            "111111111111", "northlight-studio", "arn:aws:sts::111111111111:assumed-role/CurfewAccess/curfew"
        )

    def test_wrong_secret(self, aws: SandboxAws) -> None:
        refused(
            to.aws_keys(aws, secret_access_key="wJalrXUtnFEMI/K7MDENG/bPxRfiCYWRONGSECRET"),
            AuthenticationFailed,
            "wrong_credentials",
        )

    def test_unknown_key(self, aws: SandboxAws) -> None:
        refused(to.aws_keys(aws, access_key_id="AKIAIOSFODNN7EXAMPLE"), AuthenticationFailed, "wrong_credentials")

    @pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
    def test_expired_token(self, aws: SandboxAws, code: str) -> None:
        aws.fail("GetCallerIdentity", code=code, status=403)
        assert "expired" in refused(to.aws_keys(aws), AuthenticationFailed, "credentials_expired").message

    def test_revoked_role(self, aws: SandboxAws) -> None:
        aws.launch_role("curfew-7d1f0c2b9a")
        to.aws_role(aws).verify()
        aws.delete_role()
        assert "deleted" in refused(to.aws_role(aws), AuthenticationFailed, "role_not_assumable").message

    def test_wrong_external_id(self, aws: SandboxAws) -> None:
        aws.launch_role("curfew-7d1f0c2b9a")
        assert (
            "external ID"
            in refused(
                to.aws_role(aws, external_id="somebody-elses"), AuthenticationFailed, "role_not_assumable"
            ).message
        )

    def test_missing_external_id(self, aws: SandboxAws) -> None:
        aws.launch_role("curfew-7d1f0c2b9a")
        assert "external id" in refused(to.aws_role(aws, external_id=" "), InvalidRequest, "missing_fields").message

    def test_role_that_anyone_could_borrow_us_for_is_refused(self, aws: SandboxAws) -> None:
        aws.launch_role("curfew-7d1f0c2b9a", open=True)
        refused(to.aws_role(aws), AuthenticationFailed, "external_id_not_enforced")

    def test_role_of_another_account(self, aws: SandboxAws) -> None:
        error = refused(
            to.aws_role(aws, role_arn="arn:aws:iam::222222222222:role/CurfewAccess"), InvalidRequest, "wrong_account"
        )
        assert "222222222222" in error.message

    def test_keys_of_another_account(self, aws: SandboxAws) -> None:
        refused(to.aws_keys(aws, aws_account_id="222222222222"), InvalidRequest, "wrong_account")

    @pytest.mark.parametrize(
        "number", ["abcdefghijkl", "12345", "1111-1111-1111", "1234567890123", "１１１１１１１１１１１１x"]
    )
    def test_account_number_of_letters(self, aws: SandboxAws, number: str) -> None:
        assert (
            "12 digits"
            in refused(to.aws_keys(aws, aws_account_id=number), InvalidRequest, "bad_account_number").message
        )

    @pytest.mark.parametrize("region", ["atlantis-1", "us-east-99", "", "us-east-1.evil.example"])
    def test_unknown_region(self, aws: SandboxAws, region: str) -> None:
        refused(to.aws_keys(aws, region=region), InvalidRequest, "unknown_region")

    def test_role_in_another_partition(self, aws: SandboxAws) -> None:
        refused(to.aws_role(aws, region="cn-north-1"), InvalidRequest, "wrong_partition")

    @pytest.mark.parametrize("arn", ["CurfewAccess", "arn:aws:iam::111:role/x", "arn:aws:iam::111111111111:user/x"])
    def test_not_an_arn(self, aws: SandboxAws, arn: str) -> None:
        refused(to.aws_role(aws, role_arn=arn), InvalidRequest, "bad_role_arn")

    def test_missing_permission_is_named(self, aws: SandboxAws) -> None:
        aws.fail(
            "GetCallerIdentity",
            code="AccessDenied",
            status=403,
            message="User: arn:aws:iam::111111111111:user/x is not authorized to perform: sts:GetCallerIdentity on resource: *",
        )
        error = refused(to.aws_keys(aws), PermissionDenied, "permission_denied")
        assert isinstance(error, PermissionDenied)
        assert error.permission == "sts:GetCallerIdentity"
        assert "sts:GetCallerIdentity" in error.message

    def test_throttled(self, aws: SandboxAws) -> None:
        aws.fail("GetCallerIdentity", code="Throttling", status=400, times=2)
        assert refused(to.aws_keys(aws), Throttled, "throttled").transient

    def test_server_without_an_identity_of_its_own(self, aws: SandboxAws, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
        monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
        values = {"role_arn": "arn:aws:iam::111111111111:role/CurfewAccess", "external_id": "curfew-7d1f0c2b9a"}
        connection = connect(Credentials("aws", "role", "us-east-1", values, {"aws": aws.url}))
        refused(connection, AuthenticationFailed, "platform_credentials_missing")

    def test_tenants_keys_never_fall_back_to_the_servers_identity(
        self, aws: SandboxAws, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        own = aws.credentials()["accounts"][0]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", own["access_key_id"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", own["secret_access_key"])
        refused(to.aws_keys(aws, access_key_id="", secret_access_key=""), InvalidRequest, "missing_fields")


class TestAzure:
    def test_identity(self, arm: FakeArm, certificates: Certificates) -> None:
        assert to.azure_of(arm, certificates).verify() == Identity(SUBSCRIPTION, "Northlight production", CLIENT)

    def test_wrong_secret(self, arm: FakeArm, certificates: Certificates) -> None:
        refused(
            to.azure_of(arm, certificates, client_secret="Zz9Q~the-wrong-secret-of-the-app"),
            AuthenticationFailed,
            "wrong_credentials",
        )

    def test_revoked_client(self, arm: FakeArm, certificates: Certificates) -> None:
        other = "11111111-2222-3333-4444-555555555555"
        refused(to.azure_of(arm, certificates, client_id=other), AuthenticationFailed, "unknown_client")

    def test_unknown_tenant(self, arm: FakeArm, certificates: Certificates) -> None:
        refused(
            to.azure_of(arm, certificates, tenant_id="11111111-2222-3333-4444-555555555555"),
            AuthenticationFailed,
            "unknown_tenant",
        )

    def test_unknown_subscription(self, arm: FakeArm, certificates: Certificates) -> None:
        refused(
            to.azure_of(arm, certificates, subscription_id="11111111-2222-3333-4444-555555555555"),
            NotFound,
            "unknown_subscription",
        )

    @pytest.mark.parametrize(
        "number", ["letters", "5b1f0a52", f"{SUBSCRIPTION}/../x", "12345678-1234-1234-1234-12345678901z"]
    )
    def test_malformed_subscription(self, arm: FakeArm, certificates: Certificates, number: str) -> None:
        refused(to.azure_of(arm, certificates, subscription_id=number), InvalidRequest, "bad_account_number")

    @pytest.mark.parametrize("tenant", ["../../common", "contoso", "a b.example", "x.example/../y"])
    def test_malformed_tenant(self, arm: FakeArm, certificates: Certificates, tenant: str) -> None:
        refused(to.azure_of(arm, certificates, tenant_id=tenant), InvalidRequest, "bad_tenant")

    def test_expired_token(self, arm: FakeArm, certificates: Certificates) -> None:
        arm.fail(
            "GET /subscriptions",
            arm_error(401, "ExpiredAuthenticationToken", "The access token expiry time has passed."),
            times=2,
        )
        refused(to.azure_of(arm, certificates), AuthenticationFailed, "credentials_expired")

    def test_missing_permission_is_named(self, arm: FakeArm, certificates: Certificates) -> None:
        words = f"The client '{CLIENT}' does not have authorization to perform action 'Microsoft.Resources/subscriptions/read' over scope."
        arm.fail("GET /subscriptions", arm_error(403, "AuthorizationFailed", words))
        error = refused(to.azure_of(arm, certificates), PermissionDenied, "permission_denied")
        assert isinstance(error, PermissionDenied)
        assert error.permission == "Microsoft.Resources/subscriptions/read"

    @pytest.mark.alone
    def test_throttled_does_not_wait_inside_the_call(self, arm: FakeArm, certificates: Certificates) -> None:
        arm.fail("GET /subscriptions", arm_error(429, "TooManyRequests", "Slow down.", **{"Retry-After": "17"}))
        began = time.monotonic()
        error = refused(to.azure_of(arm, certificates), Throttled, "throttled")
        assert isinstance(error, Throttled)
        assert error.retry_after == 17.0
        assert time.monotonic() - began < 5


class TestGcp:
    def test_identity(self, cloud_run: FakeCloudRun) -> None:
        assert to.gcp_of(cloud_run).verify() == Identity(PROJECT, PROJECT, EMAIL)

    def test_key_that_google_does_not_know(self, cloud_run: FakeCloudRun) -> None:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import rsa

        other = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        refused(
            to.gcp_of(cloud_run, key=service_account_key(private_key=other.decode())),
            AuthenticationFailed,
            "wrong_credentials",
        )

    def test_deleted_service_account(self, cloud_run: FakeCloudRun) -> None:
        gone = service_account_key(client_email=f"gone@{PROJECT}.iam.gserviceaccount.com")
        refused(to.gcp_of(cloud_run, key=gone), AuthenticationFailed, "unknown_client")

    def test_expired_token(self, cloud_run: FakeCloudRun) -> None:
        cloud_run.fail(
            "GET /v2/projects",
            google_error(401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
            times=9,
        )
        refused(to.gcp_of(cloud_run), AuthenticationFailed, "wrong_credentials")

    def test_token_that_ran_out_is_renewed(self, cloud_run: FakeCloudRun) -> None:
        connection = to.gcp_of(cloud_run)
        connection.verify()
        cloud_run.tokens.clear()
        connection.verify()
        assert len(cloud_run.requests("POST /token")) == 2

    def test_missing_permission_is_named(self, cloud_run: FakeCloudRun) -> None:
        words = f"Permission 'run.services.list' denied on resource 'projects/{PROJECT}/locations/us-central1/services' (or it may not exist)."
        cloud_run.fail("GET /v2/projects", google_error(403, "PERMISSION_DENIED", words))
        error = refused(to.gcp_of(cloud_run), PermissionDenied, "permission_denied")
        assert isinstance(error, PermissionDenied)
        assert error.permission == "run.services.list"

    def test_api_switched_off(self, cloud_run: FakeCloudRun) -> None:
        words = f"Cloud Run Admin API has not been used in project {PROJECT} before or it is disabled."
        cloud_run.fail("GET /v2/projects", google_error(403, "PERMISSION_DENIED", words, "SERVICE_DISABLED"))
        refused(to.gcp_of(cloud_run), PermissionDenied, "api_disabled")

    @pytest.mark.parametrize("region", ["", "atlantis", "us-central1/../x", "https://evil.example"])
    def test_unknown_region(self, cloud_run: FakeCloudRun, region: str) -> None:
        refused(to.gcp_of(cloud_run, region=region), InvalidRequest, "unknown_region")

    @pytest.mark.parametrize(
        "key",
        [
            "not json",
            "[]",
            '{"type": "service_account"',
            service_account_key(type="external_account"),
            service_account_key(type="authorized_user"),
            service_account_key(credential_source={"executable": {"command": "id"}}),
            service_account_key(private_key=None),
            service_account_key(private_key="-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
            service_account_key(client_email="root@evil.example"),
            service_account_key(universe_domain="evil.example"),
        ],
        ids=[
            "text",
            "list",
            "half",
            "external",
            "user",
            "executable",
            "no key",
            "broken key",
            "foreign mail",
            "foreign universe",
        ],
    )
    def test_key_file_of_the_wrong_shape(self, cloud_run: FakeCloudRun, key: str) -> None:
        error = refused(to.gcp_of(cloud_run, key=key), InvalidRequest, "bad_key_file")
        assert "PRIVATE KEY" not in error.detail
        assert cloud_run.log == [], "nothing may be asked with such a key"

    def test_the_token_address_must_be_googles(self, cloud_run: FakeCloudRun) -> None:
        key = service_account_key(token_uri=f"{cloud_run.url}/token")
        refused(to.gcp(cloud_run.url, key=key, endpoints={}), InvalidRequest, "bad_key_file")
        assert cloud_run.log == []

    def test_parts_of_the_key_are_secrets_too(self, cloud_run: FakeCloudRun) -> None:
        cloud_run.fail(
            "GET /v2/projects",
            google_error(400, "INVALID_ARGUMENT", f"bad {json.loads(service_account_key())['private_key_id']}"),
        )
        with pytest.raises(InvalidRequest) as caught:
            to.gcp_of(cloud_run).verify()
        assert "f00dfeed" not in json.dumps(caught.value.to_dict())


@pytest.mark.docker
class TestDockerEngine:
    def test_identity(self, docker_engine: DockerEngine) -> None:
        client = docker_engine.client()
        info = client.info()
        client.close()
        assert to.docker_local(docker_engine.socket).verify() == Identity(
            info["ID"], info["Name"], f"unix://{docker_engine.socket}"
        )


class TestDocker:
    def test_remote_identity_over_tls(self, certificates: Certificates) -> None:
        with SaysAlways(
            {"ID": "ENGINE:ONE", "Name": "render-1", "ApiVersion": "1.41"},
            kind="application/json",
            tls=certificates.server,
        ) as engine:
            found = to.docker_tls(f"127.0.0.1:{engine.port}", certificates).verify()
        assert found == Identity("ENGINE:ONE", "render-1", f"https://127.0.0.1:{engine.port}")

    def test_host_that_another_authority_signed(self, certificates: Certificates, tmp_path: Any) -> None:
        from tests.fakes.server import make_certificates

        stranger = make_certificates(tmp_path)
        with SaysAlways({}, kind="application/json", tls=stranger.server) as engine:
            refused(to.docker_tls(f"127.0.0.1:{engine.port}", certificates), AuthenticationFailed, "untrusted_host")

    def test_no_such_socket(self) -> None:
        refused(to.docker_local("/nonexistent/docker.sock"), Unreachable, "unreachable")

    @pytest.mark.parametrize(
        "host", ["ftp://x", "a b", "host:port", "host:99999", "http://127.0.0.1:1/../x", "user:pass@host"]
    )
    def test_malformed_host(self, certificates: Certificates, host: str) -> None:
        refused(to.docker_tls(host, certificates), InvalidRequest, "bad_address")

    def test_certificate_that_is_none(self, certificates: Certificates) -> None:
        refused(
            to.docker_tls("127.0.0.1:1", certificates, client_cert="/etc/passwd"), InvalidRequest, "bad_certificate"
        )

    def test_certificate_files_are_private_and_go_away(self, certificates: Certificates) -> None:
        import stat

        connection: Any = to.docker_tls(f"127.0.0.1:{free_port()}", certificates)
        before = set(Path(tempfile.gettempdir()).glob("curfew-docker-*"))
        with pytest.raises(Unreachable):
            connection.verify()
        (folder,) = set(Path(tempfile.gettempdir()).glob("curfew-docker-*")) - before
        assert {stat.S_IMODE(p.stat().st_mode) for p in folder.iterdir()} == {0o600}
        connection.close()
        assert not folder.exists()


Make = Callable[[str, Timeouts], Connection]


@pytest.fixture(params=["aws", "azure", "gcp", "gcp-token", "docker"])
def make(request: pytest.FixtureRequest, certificates: Certificates) -> Make:
    """Return a function that connects a provider to whatever stands at an address."""

    def aws(url: str, timeouts: Timeouts) -> Connection:
        values = {
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "secret_access_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        }
        return connect(Credentials("aws", "keys", "us-east-1", values, {"aws": url}), timeouts=timeouts)

    def gcp(url: str, timeouts: Timeouts) -> Connection:
        run: FakeCloudRun = request.getfixturevalue("cloud_run")
        return to.gcp(url, token_url=run.url, timeouts=timeouts)

    def docker(url: str, timeouts: Timeouts) -> Connection:
        return to.docker_tls(url.partition("://")[2], certificates, timeouts=timeouts)

    makers: dict[str, Make] = {
        "aws": aws,
        "gcp": gcp,
        "gcp-token": lambda url, t: to.gcp(url, timeouts=t),
        "docker": docker,
        "azure": lambda url, t: to.azure(url, certificates, timeouts=t),
    }
    make = makers[request.param]
    make.__name__ = request.param
    return make


def tls_for(make: Make, certificates: Certificates) -> tuple[str, str] | None:
    return certificates.server if make.__name__ in {"azure", "docker"} else None


class TestEveryProvider:
    """The same faults of the network, whatever the provider."""

    @pytest.mark.alone
    def test_a_provider_that_hangs(self, make: Make, hangs: Hangs) -> None:
        url = hangs.url.replace("http://", "https://") if make.__name__ in {"azure", "docker"} else hangs.url
        began = time.monotonic()
        assert refused(make(url, Timeouts(0.5, 0.5)), TimedOut, "timed_out").transient
        assert time.monotonic() - began < 8

    @pytest.mark.alone
    def test_nobody_listens(self, make: Make) -> None:
        scheme = "https" if make.__name__ in {"azure", "docker"} else "http"
        began = time.monotonic()
        assert refused(
            make(f"{scheme}://127.0.0.1:{free_port()}", Timeouts(0.5, 0.5)), Unreachable, "unreachable"
        ).transient
        assert time.monotonic() - began < 8

    def test_the_name_does_not_exist(self, make: Make) -> None:
        scheme = "https" if make.__name__ in {"azure", "docker"} else "http"
        assert refused(make(f"{scheme}://no-such-host.invalid:1", Timeouts(1, 1)), Unreachable, "unreachable").transient

    @pytest.mark.parametrize("status", [200, 403, 407])
    def test_a_web_page_instead_of_an_answer(self, make: Make, certificates: Certificates, status: int) -> None:
        with SaysAlways(HTML, status=status, tls=tls_for(make, certificates)) as portal:
            error = refused(make(portal.url, Timeouts(1, 1)), BadAnswer, "bad_answer")
        assert "<html" not in error.message

    def test_half_a_document(self, make: Make, certificates: Certificates) -> None:
        with SaysAlways(HALF, kind="application/json", tls=tls_for(make, certificates)) as broken:
            refused(make(broken.url, Timeouts(1, 1)), BadAnswer, "bad_answer")

    def test_a_document_of_another_shape(self, make: Make, certificates: Certificates) -> None:
        with SaysAlways('{"hello": "world"}', kind="application/json", tls=tls_for(make, certificates)) as other:
            if make.__name__ == "gcp":
                # Google leaves out what is empty, so this reads as a project without services.
                assert make(other.url, Timeouts(1, 1)).verify().account_number == PROJECT
                return
            refused(make(other.url, Timeouts(1, 1)), BadAnswer, "bad_answer")

    def test_a_fault_of_the_providers_own(self, make: Make, certificates: Certificates) -> None:
        with (
            SaysAlways(
                {"error": {"code": "InternalServerError", "message": "It is us."}},
                status=500,
                kind="application/json",
                tls=tls_for(make, certificates),
            ) as broken,
            pytest.raises(ProviderError) as caught,
        ):
            make(broken.url, Timeouts(1, 1)).verify()
        assert caught.value.transient


class TestRegistry:
    @pytest.mark.alone
    def test_making_a_connection_contacts_nobody(self, make: Make, hangs: Hangs) -> None:
        began = time.monotonic()
        make(hangs.url, Timeouts(5, 5))
        assert time.monotonic() - began < 0.5

    def test_unknown_provider_and_method(self) -> None:
        with pytest.raises(InvalidRequest):
            connect(Credentials("digitalocean", "keys"))
        with pytest.raises(InvalidRequest):
            connect(Credentials("aws", "password"))

    def test_the_form_can_be_built(self) -> None:
        for name, info in PROVIDERS.items():
            assert info.name == name
            assert info.methods
            assert not info.default_region or info.default_region in info.regions
            for method in info.methods:
                names = [f.name for f in method.fields]
                assert len(names) == len(set(names))
                assert all(f.kind in {"text", "secret", "choice", "json"} and f.label for f in method.fields)
        assert {"secret_access_key", "session_token"} <= secret_fields("aws")
        assert {m.name for i in PROVIDERS.values() for m in i.methods if m.operator_only} == {"local"}

    def test_credentials_do_not_show_themselves(self) -> None:
        key = service_account_key()
        credentials = Credentials("gcp", "service_account", "us-central1", {"service_account_json": key})
        assert "PRIVATE" not in f"{credentials!r} {credentials}"
        assert private_key()[0] not in repr(dataclasses.replace(credentials, region="x"))

    def test_region_lists_come_from_the_provider(self) -> None:
        assert "eu-central-1" in PROVIDERS["aws"].regions
        assert "us-gov-west-1" not in PROVIDERS["aws"].regions
