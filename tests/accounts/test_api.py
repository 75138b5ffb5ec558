"""The HTTP interface of people and cloud accounts: exact shapes, words and codes."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client
from rest_framework.test import APIClient

from accounts import services
from accounts.models import CloudAccount, User
from audit.models import AuditEntry
from core.providers import AuthenticationFailed, Unreachable
from tests.accounts.conftest import KEYS, PLANTED, FakeCloud
from tests.personas import PASSWORD, Persona, make_account

SIGNUP = {"organization": "Larkspur", "email": "ada@larkspur.test", "password": "a long walk at dusk"}
PROBLEM = "application/problem+json"
Api = Callable[[Persona], APIClient]


@pytest.fixture
def nobody() -> APIClient:
    return APIClient()


def post(client: APIClient, path: str, body: dict | None = None, **more: object) -> object:
    return client.post(f"/api/{path}", body or {}, format="json", **more)


class TestSignup:
    @pytest.mark.django_db
    @pytest.mark.parametrize("path", ["auth/signup", "auth/signup/", "auth/register", "auth/register/"])
    def test_the_shape(self, path: str, nobody: APIClient) -> None:
        answer = post(nobody, path, SIGNUP)
        body = answer.json()
        assert answer.status_code == 201
        account = CloudAccount.objects.all_orgs().get()
        house = {"id": str(account.organization_id), "name": "Larkspur"}
        user = {"id": str(User.objects.get().pk), "email": SIGNUP["email"], "role": "owner", "organization": house}
        assert {k: v for k, v in body.items() if k not in ("access", "refresh")} == {
            "user": user,
            "organization": house,
            "account": {"id": str(account.id), "status": "pending"},
        }
        nobody.credentials(HTTP_AUTHORIZATION=f"Bearer {body['access']}")
        assert nobody.get("/api/auth/profile").json()["onboarding"] is True

    @pytest.mark.django_db
    def test_bad_input_is_a_problem_with_fields(self, nobody: APIClient) -> None:
        answer = post(nobody, "auth/signup", {"organization": "", "email": "x", "password": "short"})
        assert (answer.status_code, answer["Content-Type"]) == (422, PROBLEM)
        assert sorted(answer.json()["errors"]) == ["email", "organization"]
        weak = post(nobody, "auth/signup", {**SIGNUP, "password": "short"}).json()
        assert sorted(weak["errors"]) == ["password"]
        assert set(weak) == {"type", "title", "status", "detail", "code", "request_id", "errors"}

    @pytest.mark.django_db
    def test_half_a_json_is_a_400(self, nobody: APIClient) -> None:
        answer = nobody.generic("POST", "/api/auth/signup", '{"organization": "La', content_type="application/json")
        assert (answer.status_code, answer["Content-Type"]) == (400, PROBLEM)

    @pytest.mark.django_db
    def test_it_is_throttled_by_address(self, nobody: APIClient, settings: object) -> None:
        codes = [
            post(
                nobody,
                "auth/signup",
                {**SIGNUP, "email": f"p{i}@a.test", "organization": f"O{i}"},
                HTTP_X_FORWARDED_FOR=f"10.0.0.{i}",
            ).status_code
            for i in range(21)
        ]
        assert codes == [201] * 20 + [429]

    @pytest.mark.django_db
    def test_no_token_before_the_address_is_confirmed_where_that_is_asked(
        self, nobody: APIClient, settings: object
    ) -> None:
        settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
        body = post(nobody, "auth/signup", SIGNUP).json()
        assert (body["access"], body["refresh"]) == (None, None)
        answer = post(nobody, "auth/token", {"email": SIGNUP["email"], "password": SIGNUP["password"]})
        assert (answer.status_code, answer.json()["code"]) == (401, "email_not_verified")


class TestToken:
    def log_in(self, client: APIClient, alice: Persona, **change: str) -> object:
        return post(client, "auth/token", {"email": alice.email, "password": PASSWORD, **change})

    def test_the_shape(self, nobody: APIClient, alice: Persona) -> None:
        answer = self.log_in(nobody, alice)
        body = answer.json()
        assert answer.status_code == 200
        assert set(body) == {"access", "refresh", "user"}
        house = {"id": str(alice.organization.pk), "name": "Larkspur"}
        assert body["user"] == {"id": str(alice.user.pk), "email": alice.email, "role": "owner", "organization": house}
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.signed_in").count() == 1

    def test_the_address_may_be_in_capitals(self, nobody: APIClient, alice: Persona) -> None:
        assert self.log_in(nobody, alice, email=alice.email.upper()).status_code == 200

    @pytest.mark.parametrize("change", [{"password": "wrong wrong wrong"}, {"email": "nobody@larkspur.test"}])
    def test_wrong_is_wrong_without_saying_which(self, change: dict, nobody: APIClient, alice: Persona) -> None:
        answer = self.log_in(nobody, alice, **change)
        assert (answer.status_code, answer.json()["code"], answer["Content-Type"]) == (
            401,
            "invalid_credentials",
            PROBLEM,
        )
        failed = (
            AuditEntry.objects.for_org(alice.organization).filter(verb="user.sign_in_failed", outcome="failed").count()
        )
        assert failed == (1 if "password" in change else 0)

    def test_guessing_locks_even_the_right_password_out(self, nobody: APIClient, alice: Persona) -> None:
        codes = [self.log_in(nobody, alice, password=f"guess {i}").status_code for i in range(6)]
        assert codes == [401] * 5 + [429]
        answer = self.log_in(nobody, alice)
        assert (answer.status_code, answer.json()["code"]) == (429, "rate_limited")
        assert int(answer["Retry-After"]) > 0

    def test_somebody_switched_off_stays_out(self, nobody: APIClient, alice: Persona) -> None:
        alice.user.is_active = False
        alice.user.save(update_fields=["is_active"])
        assert self.log_in(nobody, alice).status_code == 401

    def test_a_foreign_organization_is_not_there(self, nobody: APIClient, alice: Persona, mallory: Persona) -> None:
        assert self.log_in(nobody, alice, organization=str(mallory.organization.pk)).status_code == 404

    def test_refresh_rotates_and_logout_ends(self, nobody: APIClient, alice: Persona) -> None:
        pair = self.log_in(nobody, alice).json()
        fresh = post(nobody, "auth/token/refresh", {"refresh": pair["refresh"]})
        assert (fresh.status_code, set(fresh.json())) == (200, {"access", "refresh"})
        nobody.credentials(HTTP_AUTHORIZATION=f"Bearer {fresh.json()['access']}")
        assert post(nobody, "auth/logout", {"refresh": fresh.json()["refresh"]}).status_code == 204
        again = post(APIClient(), "auth/token/refresh", {"refresh": fresh.json()["refresh"]})
        assert (again.status_code, again.json()["code"]) == (401, "token_invalid")
        reused = post(APIClient(), "auth/token/refresh", {"refresh": pair["refresh"]})
        assert reused.json()["code"] == "token_reused"

    def test_a_browser_session_needs_the_csrf_token(self, alice: Persona) -> None:
        browser = Client(enforce_csrf_checks=True)
        browser.force_login(alice.user)
        assert browser.get("/api/auth/profile").status_code == 200
        assert browser.post("/api/auth/logout", {}, content_type="application/json").status_code == 403


class TestProfile:
    def test_of_a_person(self, alice: Persona, api_of: Api) -> None:
        body = api_of(alice).get("/api/auth/me").json()
        house = {"id": str(alice.organization.pk), "name": "Larkspur"}
        assert {k: v for k, v in body.items() if k != "permissions"} == {
            "kind": "user",
            "id": str(alice.user.pk),
            "email": alice.email,
            "name": "Alice",
            "role": "owner",
            "organization": house,
            "organizations": [{**house, "timezone": "UTC", "currency": "USD", "role": "owner"}],
            "mfa": False,
            "onboarding": True,
        }
        assert body["permissions"] == sorted(alice.actor.permissions)

    def test_of_a_key(self, alice: Persona, nobody: APIClient) -> None:
        _, text = services.create_api_key(actor=alice.actor, name="Farm", scopes=["nodes.view"])
        nobody.credentials(HTTP_AUTHORIZATION=f"Api-Key {text}")
        body = nobody.get("/api/auth/profile").json()
        assert (body["kind"], body["name"], body["email"], body["permissions"]) == (
            "api_key",
            "Farm",
            None,
            ["nodes.view"],
        )

    def test_agents_are_not_people(self, alice: Persona, nobody: APIClient) -> None:
        _, enrolment = services.create_enrolment_token(actor=alice.actor, kind="worker", name="Rack")
        _, secret = services.mint_agent_token(enrolment=enrolment, name="w")
        for text in (enrolment, secret):
            nobody.credentials(HTTP_AUTHORIZATION=f"Agent {text}")
            assert nobody.get("/api/auth/profile").status_code in (401, 403)

    @pytest.mark.django_db
    def test_nobody_is_told_how_to_sign_in(self, nobody: APIClient) -> None:
        answer = nobody.get("/api/auth/profile")
        assert (answer.status_code, answer["WWW-Authenticate"], answer["Content-Type"]) == (401, "Bearer", PROBLEM)


FIELDS = {
    "id", "provider", "provider_label", "name", "number", "region", "method", "method_label", "status", "status_label",
    "status_reason", "next_step", "is_sandbox", "found", "created_at", "connected_at", "scanned_at",
}  # fmt: skip


class TestAccounts:
    def test_the_list_is_masked_and_has_no_secret(self, alice: Persona, api_of: Api, cloud: FakeCloud) -> None:
        services.connect_account(actor=alice.actor, provider="aws", method="keys", region="us-east-1", values=KEYS)
        answer = api_of(alice).get("/api/client/accounts")
        body = answer.json()
        assert (body["count"], body["next"], body["previous"]) == (1, None, None)
        assert set(body["results"][0]) == FIELDS
        assert body["results"][0]["number"] == "1234-****-****"
        for secret in (PLANTED, KEYS["access_key_id"], "123456789012"):
            assert secret not in answer.content.decode()

    def test_the_list_filters_sorts_and_pages(self, alice: Persona, api_of: Api) -> None:
        for i, (provider, status) in enumerate([("aws", "active"), ("gcp", "error"), ("azure", "active")]):
            make_account(alice.organization, provider, f"{i}11122223333", name=f"Account {i}", status=status)
        client = api_of(alice)

        def names(query: str) -> list[str]:
            return [a["name"] for a in client.get(f"/api/client/accounts?{query}").json()["results"]]

        assert names("status=active") == ["Account 0", "Account 2"]
        assert names("provider=gcp") == ["Account 1"]
        assert names("search=count 2") == ["Account 2"]
        assert names("ordering=-name") == ["Account 2", "Account 1", "Account 0"]
        assert names("ordering=credentials") == ["Account 0", "Account 1", "Account 2"]
        assert names("page_size=2&page=2") == ["Account 2"]

    @pytest.mark.parametrize("rows", [1, 3])
    def test_the_list_costs_the_same_whatever_its_length(
        self, rows: int, alice: Persona, api_of: Api, django_assert_num_queries: object
    ) -> None:
        for i in range(rows):
            make_account(alice.organization, number=f"{i}11122223333")
        client = api_of(alice)
        with django_assert_num_queries(2):  # the membership, the accounts
            client.get("/api/client/accounts")

    def test_rename_status_and_disconnect(self, alice: Persona, api_of: Api) -> None:
        row, client = make_account(alice.organization), api_of(alice)
        path = f"/api/client/accounts/{row.id}"
        assert client.patch(path, {"name": "Render"}, format="json").json()["name"] == "Render"
        assert client.patch(path, {"name": ""}, format="json").status_code == 422
        assert set(client.get(f"{path}/status").json()) == {
            "id",
            "status",
            "status_label",
            "status_reason",
            "next_step",
            "found",
            "scanned_at",
        }
        assert client.delete(path).status_code == 204
        assert client.get(path).status_code == 404

    def test_a_viewer_is_refused_with_the_reason_and_a_denied_line(
        self, alice: Persona, bob: Persona, api_of: Api
    ) -> None:
        row, client = make_account(alice.organization), api_of(bob)
        assert client.get(f"/api/client/accounts/{row.id}").status_code == 200
        answers = [
            client.delete(f"/api/client/accounts/{row.id}"),
            client.patch(f"/api/client/accounts/{row.id}", {"name": "Mine"}, format="json"),
            post(client, f"client/accounts/{row.id}/resync"),
            post(client, f"client/accounts/{row.id}/verify"),
            post(client, "client/accounts/connect", {"provider": "aws", "method": "keys", **KEYS}),
            post(client, "client/accounts/role-setup", {"aws_account_id": "123456789012", "region": "us-east-1"}),
        ]
        assert [a.status_code for a in answers] == [403] * 6
        assert "accounts.manage" in answers[0].json()["detail"]
        denied = AuditEntry.objects.for_org(alice.organization).filter(verb="access.denied")
        assert {(e.outcome, e.actor_id, e.target_id) for e in denied} == {
            ("denied", str(bob.user.pk), "accounts.manage")
        }
        assert denied.count() == 6

    def test_a_stranger_finds_nothing(self, alice: Persona, mallory: Persona, api_of: Api) -> None:
        row, client = make_account(alice.organization), api_of(mallory)
        path = f"/api/client/accounts/{row.id}"
        answers = [
            client.get(path), client.get(f"{path}/status"), client.delete(path), client.patch(path, {"name": "Mine"}, format="json"),
            client.post(f"{path}/resync"), client.post(f"{path}/verify"), client.get(f"/api/client/accounts/{uuid4()}"),
        ]  # fmt: skip
        assert [a.status_code for a in answers] == [404] * 7
        assert client.get("/api/client/accounts").json()["count"] == 0


class TestConnect:
    def test_by_keys(self, alice: Persona, api_of: Api, cloud: FakeCloud) -> None:
        answer = post(
            api_of(alice),
            "client/accounts/connect",
            {"provider": "aws", "method": "keys", "name": "Lab", "region": "us-east-1", **KEYS},
        )
        body = answer.json()
        assert (answer.status_code, set(body), body["status"], body["method_label"]) == (
            201,
            FIELDS,
            "scanning",
            "Access Key",
        )
        assert answer["Location"] == f"/api/client/accounts/{body['id']}"

    def test_by_role(self, alice: Persona, api_of: Api, cloud: FakeCloud, platform_account: str) -> None:
        client = api_of(alice)
        setup = post(
            client,
            "client/accounts/role-setup",
            {"provider": "aws", "aws_account_id": "123456789012", "region": "us-east-1"},
        ).json()
        assert set(setup) == {"account_id", "external_id", "role_name", "role_arn", "template_url", "launch_url"}
        template = Client().get(setup["template_url"].removeprefix("http://localhost:8000"))
        assert template.status_code == 200
        assert setup["external_id"] in template.content.decode()
        assert platform_account in template.content.decode()
        asked = {
            "provider": "aws",
            "method": "role",
            "region": "us-east-1",
            "aws_account_id": "123456789012",
            "external_id": setup["external_id"],
        }
        body = post(client, "client/accounts/connect", asked).json()
        assert (body["id"], body["method_label"], body["status"]) == (setup["account_id"], "Role-Based", "scanning")

    @pytest.mark.django_db
    @pytest.mark.parametrize("token", ["x", "eyJhIjoxfQ:1abc:zzzz"])
    def test_a_made_up_template_address_is_not_there(self, token: str, platform_account: str) -> None:
        assert Client().get(f"/install/aws-role/{token}.yaml").status_code == 404

    def test_without_an_account_of_our_own_a_role_cannot_be_prepared(self, alice: Persona, api_of: Api) -> None:
        answer = post(
            api_of(alice), "client/accounts/role-setup", {"aws_account_id": "123456789012", "region": "us-east-1"}
        )
        assert (answer.status_code, answer.json()["code"]) == (503, "no_platform_account")

    def test_what_the_cloud_says_arrives_in_clear_words(self, alice: Persona, api_of: Api, cloud: FakeCloud) -> None:
        asked = {"provider": "aws", "method": "keys", "region": "us-east-1", **KEYS}
        cloud.error = AuthenticationFailed(f"AWS refused {PLANTED}.", code="wrong_keys", next_step="Make a new key.")
        answer = post(api_of(alice), "client/accounts/connect", asked)
        assert (answer.status_code, answer.json()["code"], answer.json()["next_step"]) == (
            422,
            "wrong_keys",
            "Make a new key.",
        )
        assert PLANTED not in answer.content.decode()
        cloud.error = Unreachable("No route to AWS.")
        answer = post(api_of(alice), "client/accounts/connect", asked)
        assert (answer.status_code, answer["Content-Type"], int(answer["Retry-After"]) > 0) == (503, PROBLEM, True)

    def test_letters_in_a_number_are_beside_the_field(self, alice: Persona, api_of: Api, cloud: FakeCloud) -> None:
        answer = post(
            api_of(alice),
            "client/accounts/connect",
            {"provider": "aws", "method": "keys", "aws_account_id": "12345678901O", **KEYS},
        )
        assert (answer.status_code, list(answer.json()["errors"])) == (422, ["aws_account_id"])

    def test_a_claimed_account_is_a_conflict(
        self, alice: Persona, mallory: Persona, api_of: Api, cloud: FakeCloud
    ) -> None:
        asked = {"provider": "aws", "method": "keys", "region": "us-east-1", **KEYS}
        assert post(api_of(alice), "client/accounts/connect", asked).status_code == 201
        answer = post(api_of(mallory), "client/accounts/connect", asked)
        assert (answer.status_code, answer.json()["code"]) == (409, "claimed")
        assert "Larkspur" not in answer.content.decode()

    def test_resync_is_a_202_with_the_operation(self, alice: Persona, api_of: Api, cloud: FakeCloud) -> None:
        row = services.connect_account(
            actor=alice.actor, provider="aws", method="keys", region="us-east-1", values=KEYS
        )
        answer = post(api_of(alice), f"client/accounts/{row.id}/resync")
        operation = answer.json()["operation"]
        assert (answer.status_code, operation["kind"], operation["status"]) == (202, "account.scan", "queued")
        assert answer["Location"] == f"/api/operations/{operation['id']}"
        assert api_of(alice).get(answer["Location"]).json()["id"] == operation["id"]

    def test_resync_before_connecting_is_a_conflict(self, alice: Persona, api_of: Api) -> None:
        row = make_account(alice.organization, number="", status="pending", method="")
        answer = post(api_of(alice), f"client/accounts/{row.id}/resync")
        assert (answer.status_code, answer.json()["code"]) == (409, "not_connected")


def test_the_schema_has_every_path_once(db: None) -> None:
    from drf_spectacular.generators import SchemaGenerator

    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    ours = sorted(p for p in paths if p.startswith(("/api/auth", "/api/client")))
    assert ours == sorted(
        [
            "/api/auth/signup", "/api/auth/register", "/api/auth/token", "/api/auth/login", "/api/auth/token/refresh", "/api/auth/logout",
            "/api/auth/profile", "/api/auth/me", "/api/client/accounts", "/api/client/accounts/role-setup", "/api/client/accounts/connect",
            "/api/client/accounts/{account_id}", "/api/client/accounts/{account_id}/status", "/api/client/accounts/{account_id}/verify",
            "/api/client/accounts/{account_id}/resync",
        ]
    )  # fmt: skip
