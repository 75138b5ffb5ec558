"""Pages: with and without htmx, errors beside the field, rights, tenancy, the wizard's manners."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest
from django.test import Client

from accounts import services
from accounts.models import ApiKey, CloudAccount, Membership, User
from audit.models import AuditEntry
from core.errors import Conflict
from core.providers import AuthenticationFailed, Unreachable
from tests.accounts.conftest import KEYS, PLANTED, FakeCloud
from tests.personas import PASSWORD, Persona, make_account, make_organization

Browser = Callable[[Persona], Client]
CLOUD = "/settings/cloud-integrations"
SIGNUP = {"organization": "Larkspur", "email": "ada@larkspur.test", "password": "a long walk at dusk"}


def text(answer: object) -> str:
    return answer.content.decode()


class TestLogIn:
    def test_it_leads_to_the_wizard_while_nothing_is_connected(self, alice: Persona) -> None:
        browser = Client()
        answer = browser.post("/login", {"login": alice.email, "password": PASSWORD})
        assert (answer.status_code, answer["Location"]) == (302, "/welcome")
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.signed_in").count() == 1

    def test_it_leads_home_when_something_is_connected(self, alice: Persona) -> None:
        make_account(alice.organization)
        assert Client().post("/login", {"login": alice.email, "password": PASSWORD})["Location"] == "/"

    def test_it_leads_home_after_the_wizard_was_skipped(self, alice: Persona, client_of: Browser) -> None:
        assert client_of(alice).post("/welcome/skip")["Location"] == "/"
        assert Client().post("/login", {"login": alice.email, "password": PASSWORD})["Location"] == "/"

    def test_a_viewer_never_meets_the_wizard(self, bob: Persona) -> None:
        assert Client().post("/login", {"login": bob.email, "password": PASSWORD})["Location"] == "/"

    @pytest.mark.parametrize(
        ("wanted", "leads_to"), [("/settings/", "/settings/"), ("https://evil.test/", "/"), ("//evil.test", "/")]
    )
    def test_next_is_followed_within_this_site_only(self, wanted: str, leads_to: str, alice: Persona) -> None:
        make_account(alice.organization)
        answer = Client().post("/login", {"login": alice.email, "password": PASSWORD, "next": wanted})
        assert answer["Location"] == leads_to

    def test_wrong_is_a_422_with_words_and_an_audit_line(self, alice: Persona) -> None:
        answer = Client().post("/login", {"login": alice.email, "password": "wrong wrong wrong"})
        assert answer.status_code == 422
        assert "The e-mail address or the password is not right." in text(answer)
        assert "wrong wrong wrong" not in text(answer)
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.sign_in_failed").count() == 1

    def test_guessing_locks_out_page_and_api_together(self, alice: Persona) -> None:
        browser = Client()
        for i in range(5):
            browser.post("/login", {"login": alice.email, "password": f"guess {i}"})
        answer = browser.post("/login", {"login": alice.email, "password": PASSWORD})
        assert answer.status_code == 429
        assert "Too many attempts" in text(answer)
        body = {"email": alice.email, "password": PASSWORD}
        assert browser.post("/api/auth/token", body, content_type="application/json").status_code == 429

    def test_a_stranger_is_sent_to_it_and_a_fragment_told_to(self, db: None, htmx: dict) -> None:
        assert Client().get("/settings/members")["Location"] == "/login?next=%2Fsettings%2Fmembers"
        answer = Client().get("/settings/members", headers=htmx)
        assert (answer.status_code, answer["HX-Redirect"], answer.content) == (401, "/login", b"")

    def test_logging_out_needs_a_post_and_is_audited(self, alice: Persona, client_of: Browser) -> None:
        browser = client_of(alice)
        assert browser.get("/logout").status_code == 405
        assert browser.post("/logout")["Location"] == "/login"
        assert browser.get("/settings/").status_code == 302
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="user.signed_out").count() == 1

    def test_allauths_own_doors_lead_to_ours(self, db: None) -> None:
        assert Client().get("/account/login/?next=/x")["Location"] == "/login?next=/x"
        assert Client().get("/account/signup/")["Location"] == "/signup"


class TestSignUp:
    @pytest.mark.django_db
    def test_it_signs_in_and_opens_the_wizard(self) -> None:
        browser = Client()
        answer = browser.post("/signup", SIGNUP)
        assert (answer.status_code, answer["Location"]) == (302, "/welcome")
        page = browser.get("/welcome")
        assert page.status_code == 200
        assert "Step 1 of 4" in text(page)

    @pytest.mark.django_db
    def test_errors_are_beside_their_field_and_nothing_typed_is_lost_but_the_password(self) -> None:
        answer = Client().post("/signup", {**SIGNUP, "email": "not-an-address", "password": "short"})
        assert answer.status_code == 422
        assert 'id="id_email_error"' in text(answer)
        assert 'value="Larkspur"' in text(answer)
        weak = Client().post("/signup", {**SIGNUP, "password": "short-pw"})
        assert 'id="id_password_error"' in text(weak)
        assert "short-pw" not in text(weak)
        assert not User.objects.exists()

    @pytest.mark.django_db
    def test_a_taken_address_is_said(self, alice: Persona) -> None:
        answer = Client().post("/signup", {**SIGNUP, "email": alice.email})
        assert answer.status_code == 422
        assert "signed up with this e-mail address already" in text(answer)

    @pytest.mark.django_db
    def test_a_closed_server_says_so(self, settings: object) -> None:
        settings.CURFEW_ALLOW_SIGNUP = False
        assert "takes no new sign-ups" in text(Client().get("/signup"))
        assert Client().post("/signup", SIGNUP).status_code == 403


class TestOrganizations:
    def test_switching(self, alice: Persona, mallory: Persona, client_of: Browser) -> None:
        second = make_organization("Larkspur Labs")
        Membership.objects.for_org(second).create(organization=second, user=alice.user, role="viewer")
        browser = client_of(alice)
        assert browser.post("/switch-organization", {"organization": str(second.pk)}).status_code == 302
        assert "You are viewer of Larkspur Labs." in text(browser.get("/settings/"))
        for foreign in (str(mallory.organization.pk), "x", ""):
            assert browser.post("/switch-organization", {"organization": foreign}).status_code == 404

    def test_somebody_in_no_organization_is_told(self, alice: Persona, client_of: Browser) -> None:
        Membership.objects.for_org(alice.organization).filter(user=alice.user).delete()
        answer = client_of(alice).get("/settings/")
        assert answer.status_code == 403
        assert "not a member of any organization" in text(answer)


PAGES = ["/settings/", CLOUD, f"{CLOUD}/connect", f"{CLOUD}/connect/aws/role", f"{CLOUD}/connect/aws/keys", f"{CLOUD}/connect/azure/service_principal",
         f"{CLOUD}/connect/gcp/service_account", f"{CLOUD}/connect/docker/tls", "/settings/members", "/settings/api-keys", "/settings/security",
         "/welcome", "/welcome/method", "/welcome/connect/aws/role", "/welcome/connect/aws/keys"]  # fmt: skip


class TestEveryPage:
    @pytest.mark.parametrize("path", PAGES)
    def test_it_opens_for_an_owner_without_inline_script_or_style(
        self, path: str, alice: Persona, client_of: Browser
    ) -> None:
        answer = client_of(alice).get(path)
        assert answer.status_code == 200
        page = text(answer)
        for bad in ("style=", "onclick=", "javascript:", 'href="#"', "<style"):
            assert bad not in page
        assert page.count("<h1") == 1

    @pytest.mark.parametrize("path", [CLOUD, "/settings/members", "/settings/api-keys"])
    def test_htmx_gets_the_part_and_no_frame(self, path: str, alice: Persona, client_of: Browser, htmx: dict) -> None:
        answer = client_of(alice).get(path, headers=htmx)
        assert answer.status_code == 200
        assert "<html" not in text(answer)
        assert "HX-Request" in answer["Vary"]

    @pytest.mark.parametrize(
        ("path", "status"),
        [("/settings/", 200), (CLOUD, 200), ("/settings/members", 200), ("/settings/security", 200), ("/welcome", 200), (f"{CLOUD}/connect", 403),
         (f"{CLOUD}/connect/aws/keys", 403), ("/settings/api-keys", 403), ("/welcome/method", 403)],
    )  # fmt: skip
    def test_what_a_viewer_sees(self, path: str, status: int, bob: Persona, client_of: Browser) -> None:
        assert client_of(bob).get(path).status_code == status

    def test_a_refused_page_leaves_a_denied_line(self, bob: Persona, client_of: Browser) -> None:
        client_of(bob).get("/settings/api-keys")
        line = AuditEntry.objects.for_org(bob.organization).get(verb="access.denied")
        assert (line.outcome, line.target_id, line.actor_label) == ("denied", "api_keys.manage", "Bob")

    def test_the_local_socket_is_not_offered_to_tenants(self, alice: Persona, client_of: Browser) -> None:
        browser = client_of(alice)
        assert "docker/local" not in text(browser.get(f"{CLOUD}/connect"))
        assert browser.get(f"{CLOUD}/connect/docker/local").status_code == 403
        alice.user.is_staff = True
        alice.user.save(update_fields=["is_staff"])
        assert "docker/local" in text(browser.get(f"{CLOUD}/connect"))

    @pytest.mark.parametrize("way", ["aws/telepathy", "ibm/keys"])
    def test_a_way_that_does_not_exist(self, way: str, alice: Persona, client_of: Browser) -> None:
        assert client_of(alice).get(f"{CLOUD}/connect/{way}").status_code == 404


class TestCards:
    def test_the_untouched_placeholder_is_an_empty_state(self, alice: Persona, client_of: Browser) -> None:
        make_account(alice.organization, number="", status="pending", method="")
        assert "No cloud account yet" in text(client_of(alice).get(CLOUD))

    def test_a_card_is_masked_and_says_why(self, alice: Persona, client_of: Browser) -> None:
        make_account(alice.organization, status="error", status_reason="The key was revoked.", next_step="Make a new key.", is_sandbox=True,
                     found={"cloud_nodes": 3}, principal="arn:aws:iam::111122223333:user/curfew", connected_at="2031-01-01T00:00Z")  # fmt: skip
        page = text(client_of(alice).get(CLOUD))
        for words in (
            "1111-****-****",
            "us-east-1",
            "Access Key",
            "Error",
            "The key was revoked.",
            "Make a new key.",
            "Sandbox",
        ):
            assert words in page
        detail = text(client_of(alice).get(f"{CLOUD}/{CloudAccount.objects.for_org(alice.organization).get().id}"))
        assert "arn:aws:iam::1111-****-****:user/curfew" in detail
        assert "111122223333" not in page + detail

    @pytest.mark.parametrize("rows", [1, 3])
    def test_the_page_costs_the_same_whatever_its_length(
        self, rows: int, alice: Persona, client_of: Browser, htmx: dict, django_assert_num_queries: object
    ) -> None:
        for i in range(rows):
            make_account(alice.organization, number=f"{i}11122223333")
        browser = client_of(alice)
        browser.get(CLOUD, headers=htmx)
        with django_assert_num_queries(2):  # person with memberships, accounts
            browser.get(CLOUD, headers=htmx)

    def test_a_viewer_has_no_menu(self, alice: Persona, bob: Persona, client_of: Browser) -> None:
        row = make_account(alice.organization)
        page = text(client_of(bob).get(CLOUD))
        assert row.name in page
        assert "Disconnect" not in page
        assert "Check and replace" not in text(client_of(bob).get(f"{CLOUD}/{row.id}"))

    def test_strangers_find_nothing(self, alice: Persona, mallory: Persona, client_of: Browser) -> None:
        row, browser = make_account(alice.organization), client_of(mallory)
        assert row.name not in text(browser.get(CLOUD))
        one = f"{CLOUD}/{row.id}"
        gets = [
            browser.get(p).status_code
            for p in (one, f"{one}/disconnect", f"/welcome/done/{row.id}", f"{CLOUD}/{uuid4()}")
        ]
        posts = [
            browser.post(f"{one}/{verb}", {"name": "Mine"}).status_code
            for verb in ("rename", "resync", "verify", "disconnect", "credentials")
        ]
        assert gets + posts == [404] * 9
        assert CloudAccount.objects.for_org(alice.organization).filter(id=row.id, name=row.name).exists()


class TestConnecting:
    def test_by_keys_then_the_card(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        browser = client_of(alice)
        answer = browser.post(f"{CLOUD}/connect/aws/keys", {"name": "Lab", "region": "us-east-1", **KEYS})
        assert (answer.status_code, answer["Location"]) == (302, CLOUD)
        page = text(browser.get(CLOUD))
        assert "Lab is connected" in page
        assert "Scanning" in page

    @pytest.mark.parametrize(
        ("error", "words"),
        [
            (
                AuthenticationFailed(f"AWS does not accept {PLANTED}.", code="wrong_keys", next_step="Make a new key."),
                "Make a new key.",
            ),
            (Unreachable("AWS cannot be reached."), "AWS cannot be reached."),
            (Unreachable("AWS cannot be reached."), "Nothing was stored. Check the network"),
        ],
    )
    def test_a_refusal_is_on_the_form_and_no_secret_comes_back(
        self, error: Exception, words: str, alice: Persona, client_of: Browser, cloud: FakeCloud
    ) -> None:
        cloud.error = error
        answer = client_of(alice).post(f"{CLOUD}/connect/aws/keys", {"name": "Lab", "region": "us-east-1", **KEYS})
        assert answer.status_code == 422
        assert words in text(answer)
        assert 'value="Lab"' in text(answer)
        for secret in KEYS.values():
            assert secret not in text(answer)

    def test_a_big_secret_does_not_come_back_either(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        answer = client_of(alice).post(
            f"{CLOUD}/connect/gcp/service_account",
            {"region": "us-central1", "service_account_json": f'{{"private_key": "{PLANTED}"'},
        )
        assert answer.status_code == 422
        assert "This is not JSON" in text(answer)
        assert PLANTED not in text(answer)

    def test_letters_in_the_number_are_said_beside_it(
        self, alice: Persona, client_of: Browser, cloud: FakeCloud
    ) -> None:
        answer = client_of(alice).post(
            f"{CLOUD}/connect/aws/keys", {"region": "us-east-1", "aws_account_id": "12345678901O", **KEYS}
        )
        assert "exactly 12 digits" in text(answer)
        assert 'id="id_aws_account_id_error"' in text(answer)

    @pytest.mark.parametrize("place", [f"{CLOUD}/connect/aws/role", "/welcome/connect/aws/role"])
    def test_by_role_in_two_halves(
        self, place: str, alice: Persona, client_of: Browser, cloud: FakeCloud, platform_account: str
    ) -> None:
        browser = client_of(alice)
        wrong = browser.post(place, {"step": "prepare", "aws_account_id": "12", "region": "us-east-1"})
        assert (wrong.status_code, "exactly 12 digits" in text(wrong)) == (422, True)
        prepared = browser.post(place, {"step": "prepare", "aws_account_id": "1234-5678-9012", "region": "us-east-1"})
        assert prepared.status_code == 302
        page = text(browser.get(prepared["Location"]))
        row = CloudAccount.objects.for_org(alice.organization).get()
        assert row.external_id in page
        cloud.error = AuthenticationFailed("AWS does not let Curfew assume this role.", code="role_not_assumable")
        refused = browser.post(prepared["Location"], {"step": "verify", "name": ""})
        assert (refused.status_code, "does not let Curfew assume" in text(refused)) == (422, True)
        cloud.error = None
        answer = browser.post(prepared["Location"], {"step": "verify", "name": "Production"})
        assert answer.status_code == 302
        row.refresh_from_db()
        assert (row.name, row.method, row.status) == ("Production", "role", "scanning")

    def test_a_foreign_prepared_role_is_not_shown(
        self, alice: Persona, mallory: Persona, client_of: Browser, platform_account: str
    ) -> None:
        setup = services.prepare_role(actor=alice.actor, aws_account_id="123456789012", region="us-east-1")
        page = text(client_of(mallory).get(f"{CLOUD}/connect/aws/role?account={setup.account.id}"))
        assert setup.external_id not in page

    def test_the_wizard_ends_with_the_scan(
        self, alice: Persona, client_of: Browser, cloud: FakeCloud, htmx: dict
    ) -> None:
        browser = client_of(alice)
        answer = browser.post("/welcome/connect/aws/keys", {"region": "us-east-1", **KEYS})
        row = CloudAccount.objects.for_org(alice.organization).get()
        assert answer["Location"] == f"/welcome/done/{row.id}"
        assert "We are now scanning" in text(browser.get(answer["Location"]))
        services.mark_scanned(account=row, found={"cloud_nodes": 12})
        part = text(browser.get(answer["Location"], headers=htmx))
        assert ("12 cloud nodes" in part, "<html" in part) == (True, False)
        alice.user.refresh_from_db()
        assert alice.user.wizard_closed_at is not None

    def test_without_a_sandbox_there_is_none_to_connect(self, alice: Persona, client_of: Browser) -> None:
        assert client_of(alice).post(f"{CLOUD}/connect/sandbox", {"method": "keys"}).status_code == 404


class TestOneAccount:
    def connected(self, alice: Persona) -> CloudAccount:
        return services.connect_account(
            actor=alice.actor, provider="aws", method="keys", region="us-east-1", values=KEYS
        )

    def test_rename(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        row, browser = self.connected(alice), client_of(alice)
        assert browser.post(f"{CLOUD}/{row.id}/rename", {"name": ""}).status_code == 422
        assert browser.post(f"{CLOUD}/{row.id}/rename", {"name": "Render"}).status_code == 302
        row.refresh_from_db()
        assert row.name == "Render"

    def test_new_credentials(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        row, browser = self.connected(alice), client_of(alice)
        cloud.error = AuthenticationFailed("Wrong again.", code="wrong_keys")
        refused = browser.post(f"{CLOUD}/{row.id}/credentials", {"region": "us-east-1", **KEYS})
        assert (refused.status_code, "Wrong again." in text(refused), PLANTED in text(refused)) == (422, True, False)
        cloud.error = None
        assert browser.post(f"{CLOUD}/{row.id}/credentials", {"region": "eu-west-1", **KEYS}).status_code == 302
        row.refresh_from_db()
        assert row.region == "eu-west-1"

    def test_checking_shows_the_clouds_words(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        row, browser = self.connected(alice), client_of(alice)
        cloud.error = AuthenticationFailed("The key was revoked.", code="wrong_keys", detail="InvalidClientTokenId")
        answer = browser.post(f"{CLOUD}/{row.id}/verify")
        assert (answer.status_code, "The key was revoked." in text(answer), "InvalidClientTokenId" in text(answer)) == (
            422,
            True,
            True,
        )

    def test_disconnecting_asks_first(self, alice: Persona, client_of: Browser, cloud: FakeCloud, htmx: dict) -> None:
        row, browser = self.connected(alice), client_of(alice)
        services.mark_scanned(account=row, found={"cloud_nodes": 12})
        page, part = (
            text(browser.get(f"{CLOUD}/{row.id}/disconnect")),
            text(browser.get(f"{CLOUD}/{row.id}/disconnect", headers=htmx)),
        )
        for words in ("12 cloud nodes", "Nothing is switched off"):
            assert words in page
            assert words in part
        assert "<html" not in part
        assert browser.post(f"{CLOUD}/{row.id}/disconnect")["Location"] == CLOUD
        assert not CloudAccount.objects.for_org(alice.organization).exists()

    def test_a_refused_disconnect_says_why(
        self, alice: Persona, client_of: Browser, cloud: FakeCloud, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        row = self.connected(alice)

        def refuse(**facts: object) -> None:
            raise Conflict("A node is starting. Wait for it.")

        monkeypatch.setattr("accounts.services.cloud_accounts.hooks.cloud_account_disconnecting.emit", refuse)
        answer = client_of(alice).post(f"{CLOUD}/{row.id}/disconnect")
        assert (answer.status_code, "A node is starting. Wait for it." in text(answer)) == (409, True)

    def test_resync(self, alice: Persona, client_of: Browser, cloud: FakeCloud) -> None:
        row = self.connected(alice)
        services.mark_scanned(account=row, found={})
        assert client_of(alice).post(f"{CLOUD}/{row.id}/resync").status_code == 302


class TestPeoplePages:
    def test_roles_are_changed_and_the_last_owner_is_not(
        self, alice: Persona, bob: Persona, client_of: Browser
    ) -> None:
        browser = client_of(alice)
        rows = {m.user.email: m for m in Membership.objects.for_org(alice.organization).select_related("user")}
        browser.post(f"/settings/members/{rows[bob.email].id}/role", {"role": "operator"})
        assert "Bob is operator now." in text(browser.get("/settings/members"))
        browser.post(f"/settings/members/{rows[alice.email].id}/role", {"role": "viewer"})
        assert "This is the last owner." in text(browser.get("/settings/members"))

    def test_removing_asks_first(self, alice: Persona, bob: Persona, client_of: Browser) -> None:
        row = Membership.objects.for_org(alice.organization).get(user=bob.user)
        browser = client_of(alice)
        assert "Remove Bob from Larkspur?" in text(browser.get(f"/settings/members/{row.id}/remove"))
        browser.post(f"/settings/members/{row.id}/remove")
        assert client_of(bob).get("/settings/").status_code == 403

    def test_leaving_ones_only_organization_logs_out(self, bob: Persona, client_of: Browser) -> None:
        row = Membership.objects.for_org(bob.organization).get(user=bob.user)
        browser = client_of(bob)
        assert "Leave Larkspur?" in text(browser.get(f"/settings/members/{row.id}/remove"))
        assert browser.post(f"/settings/members/{row.id}/remove")["Location"] == "/login"

    def test_a_key_is_shown_once(self, alice: Persona, client_of: Browser) -> None:
        browser = client_of(alice)
        assert browser.post("/settings/api-keys", {"name": "", "days": "30"}).status_code == 422
        answer = browser.post("/settings/api-keys", {"name": "Farm", "days": "0", "scopes": ["nodes.view"]})
        key = ApiKey.objects.for_org(alice.organization).get()
        assert (answer.status_code, key.expires_at, f"{key.prefix}_" in text(answer)) == (201, None, True)
        assert f"{key.prefix}_" not in text(browser.get("/settings/api-keys"))
        browser.post(f"/settings/api-keys/{key.id}/revoke")
        assert "Revoked" in text(browser.get("/settings/api-keys"))

    def test_settings_are_saved(self, alice: Persona, client_of: Browser) -> None:
        browser = client_of(alice)
        assert browser.post("/settings/profile", {"profile-name": "Alice Winter"}).status_code == 302
        assert (
            browser.post(
                "/settings/organization", {"organization-name": "Larkspur", "organization-timezone": "Asia/Tokyo"}
            ).status_code
            == 302
        )
        assert browser.post("/settings/appearance", {"appearance-theme": "dark"}).status_code == 302
        page = text(browser.get("/settings/"))
        assert 'value="Alice Winter"' in page
        assert '<option value="Asia/Tokyo" selected>' in text(browser.get("/settings/organization"))
        wrong = browser.post("/settings/organization", {"organization-name": "", "organization-timezone": "Mars"})
        assert (wrong.status_code, "Give the organization a name." in text(wrong)) == (422, True)
        assert browser.post("/settings/appearance", {"appearance-theme": "plaid"}).status_code == 422

    def test_a_viewer_does_not_change_the_organization(self, bob: Persona, client_of: Browser) -> None:
        answer = client_of(bob).post(
            "/settings/organization", {"organization-name": "Bob's", "organization-timezone": "UTC"}
        )
        assert answer.status_code == 403
