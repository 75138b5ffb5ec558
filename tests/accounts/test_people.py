"""Members, keys, agents, profile."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

import pytest

from accounts import selectors, services
from accounts.models import AgentToken, ApiKey, Membership, Organization
from accounts.permissions import ROLE_PERMISSIONS
from audit.models import AuditEntry
from core import clock
from core.errors import Conflict, Forbidden, InvalidInput, NotFound, NotSignedIn
from tests.personas import Persona, make_person


def membership(persona: Persona) -> Membership:
    return Membership.objects.for_org(persona.organization).get(user=persona.user)


@pytest.fixture
def adam(alice: Persona) -> Persona:
    """Admin of Larkspur."""
    return make_person("adam", alice.organization, "admin")


class TestMembers:
    def test_an_owner_gives_roles_and_it_is_audited(self, alice: Persona, bob: Persona) -> None:
        row = services.change_role(actor=alice.actor, membership_id=membership(bob).id, role="operator")
        assert row.role == "operator"
        line = AuditEntry.objects.for_org(alice.organization).get(verb="member.role_changed")
        assert (line.target_label, line.changes) == (bob.email, {"role": ["viewer", "operator"]})

    def test_a_viewer_may_not(self, bob: Persona, olga: Persona) -> None:
        for person in (bob, olga):
            with pytest.raises(Forbidden):
                services.change_role(actor=person.actor, membership_id=membership(bob).id, role="owner")

    def test_an_admin_makes_no_owners_and_unmakes_none(self, alice: Persona, adam: Persona, bob: Persona) -> None:
        services.change_role(actor=adam.actor, membership_id=membership(bob).id, role="admin")
        for target, role in ((bob, "owner"), (adam, "owner"), (alice, "viewer")):
            with pytest.raises(Forbidden):
                services.change_role(actor=adam.actor, membership_id=membership(target).id, role=role)
        with pytest.raises(Forbidden):
            services.remove_member(actor=adam.actor, membership_id=membership(alice).id)

    def test_the_last_owner_stays(self, alice: Persona, bob: Persona) -> None:
        with pytest.raises(Conflict):
            services.change_role(actor=alice.actor, membership_id=membership(alice).id, role="viewer")
        with pytest.raises(Conflict):
            services.remove_member(actor=alice.actor, membership_id=membership(alice).id)
        services.change_role(actor=alice.actor, membership_id=membership(bob).id, role="owner")
        services.change_role(actor=alice.actor, membership_id=membership(alice).id, role="viewer")
        assert membership(alice).role == "viewer"

    def test_who_is_removed_is_out_at_once(self, alice: Persona, bob: Persona) -> None:
        caller = selectors.caller_for(bob.user)
        assert caller is not None
        pair = services.issue_tokens(caller=caller)
        services.remove_member(actor=alice.actor, membership_id=membership(bob).id)
        assert selectors.actor_of_access_token(pair.access) is None
        with pytest.raises(NotSignedIn):
            services.rotate_refresh(refresh=pair.refresh)

    def test_anybody_may_leave(self, bob: Persona) -> None:
        services.remove_member(actor=bob.actor, membership_id=membership(bob).id)
        assert selectors.memberships_of(bob.user) == []

    def test_a_foreign_member_is_not_there(self, alice: Persona, mallory: Persona) -> None:
        with pytest.raises(NotFound):
            services.change_role(actor=mallory.actor, membership_id=membership(alice).id, role="viewer")
        with pytest.raises(NotFound):
            services.remove_member(actor=mallory.actor, membership_id=membership(alice).id)

    def test_the_page_offers_only_what_would_be_allowed(self, alice: Persona, adam: Persona, bob: Persona) -> None:
        def offers(viewer: Persona) -> dict[str, tuple[tuple[str, ...], bool]]:
            return {
                m.email: (tuple(value for value, _ in m.roles), m.can_remove)
                for m in selectors.list_members(actor=viewer.actor)
            }

        every = ("owner", "admin", "operator", "viewer")
        assert offers(alice) == {alice.email: ((), False), adam.email: (every, True), bob.email: (every, True)}
        assert offers(adam) == {alice.email: ((), False), adam.email: (every[1:], True), bob.email: (every[1:], True)}
        assert offers(bob) == {alice.email: ((), False), adam.email: ((), False), bob.email: ((), True)}


class TestApiKeys:
    def test_it_is_shown_once_and_works_within_its_scopes(self, alice: Persona) -> None:
        key, text = services.create_api_key(actor=alice.actor, name="Render farm", scopes=["nodes.view"], days=30)
        stored = ApiKey.objects.for_org(alice.organization).get()
        assert text not in repr(vars(stored))
        actor = selectors.actor_of_api_key(text)
        assert actor is not None
        assert (actor.id, actor.permissions, actor.org_id) == (
            str(key.id),
            frozenset({"nodes.view"}),
            alice.organization.pk,
        )

    def test_it_ends(self, alice: Persona) -> None:
        key, text = services.create_api_key(actor=alice.actor, name="Old", scopes=["nodes.view"], days=1)
        with clock.at(clock.now() + timedelta(days=2)):
            assert selectors.actor_of_api_key(text) is None
        services.revoke_api_key(actor=alice.actor, key_id=key.id)
        assert selectors.actor_of_api_key(text) is None

    @pytest.mark.parametrize(
        ("change", "field"),
        [
            ({"name": " "}, "name"),
            ({"scopes": []}, "scopes"),
            ({"scopes": ["nodes.fly"]}, "scopes"),
            ({"days": 0}, "days"),
            ({"days": 4000}, "days"),
        ],
    )
    def test_bad_input_names_its_field(self, change: dict, field: str, alice: Persona) -> None:
        with pytest.raises(InvalidInput) as refused:
            services.create_api_key(
                actor=alice.actor, **{"name": "Key", "scopes": ["nodes.view"], "days": None, **change}
            )
        assert list(refused.value.errors) == [field]

    def test_it_is_never_stronger_than_its_maker(self, adam: Persona) -> None:
        with pytest.raises(InvalidInput):
            services.create_api_key(actor=adam.actor, name="Key", scopes=["organization.delete"])

    def test_rights_and_tenancy(self, alice: Persona, bob: Persona, mallory: Persona) -> None:
        key, _ = services.create_api_key(actor=alice.actor, name="Key", scopes=["nodes.view"])
        with pytest.raises(Forbidden):
            services.create_api_key(actor=bob.actor, name="Key", scopes=["nodes.view"])
        with pytest.raises(Forbidden):
            services.revoke_api_key(actor=bob.actor, key_id=key.id)
        with pytest.raises(NotFound):
            services.revoke_api_key(actor=mallory.actor, key_id=key.id)


class TestAgents:
    def test_an_enrolment_token_mints_tokens_of_its_kind_for_a_while(self, alice: Persona) -> None:
        row, text = services.create_enrolment_token(actor=alice.actor, kind="worker", name="Rack 3", hours=1)
        resource = uuid4()
        agent, secret = services.mint_agent_token(enrolment=text, name="worker-1", resource_id=resource)
        assert (agent.kind, agent.enrolment, agent.resource_id, agent.organization_id) == (
            "worker",
            False,
            resource,
            alice.organization.pk,
        )
        assert selectors.agent_token(secret) == agent
        with clock.at(clock.now() + timedelta(hours=2)), pytest.raises(NotSignedIn):
            services.mint_agent_token(enrolment=text, name="late")
        services.revoke_agent_token(actor=alice.actor, token_id=row.id)
        with pytest.raises(NotSignedIn):
            services.mint_agent_token(enrolment=text, name="after")

    def test_an_agents_own_token_mints_nothing(self, alice: Persona) -> None:
        _, text = services.create_enrolment_token(actor=alice.actor, kind="cluster", name="Prod")
        _, secret = services.mint_agent_token(enrolment=text, name="agent")
        with pytest.raises(NotSignedIn):
            services.mint_agent_token(enrolment=secret, name="child")

    def test_rights_and_tenancy(self, alice: Persona, olga: Persona, mallory: Persona) -> None:
        row, _ = services.create_enrolment_token(actor=alice.actor, kind="worker", name="Rack 3")
        with pytest.raises(Forbidden):
            services.create_enrolment_token(actor=olga.actor, kind="worker", name="Rack 4")
        with pytest.raises(NotFound):
            services.revoke_agent_token(actor=mallory.actor, token_id=row.id)
        with pytest.raises(InvalidInput):
            services.create_enrolment_token(actor=alice.actor, kind="toaster", name="Rack 3")
        assert AgentToken.objects.for_org(alice.organization).count() == 1


class TestProfile:
    def test_the_organizations_name_and_zone(self, alice: Persona, bob: Persona) -> None:
        services.update_organization(actor=alice.actor, name="Larkspur Studio", timezone="Europe/Berlin")
        house = Organization.objects.get(pk=alice.organization.pk)
        assert (house.name, house.timezone) == ("Larkspur Studio", "Europe/Berlin")
        with pytest.raises(InvalidInput) as refused:
            services.update_organization(actor=alice.actor, name="", timezone="Mars/Olympus")
        assert sorted(refused.value.errors) == ["name", "timezone"]
        with pytest.raises(Forbidden):
            services.update_organization(actor=bob.actor, name="Bob's", timezone="UTC")

    def test_appearance_is_kept_with_the_person(self, bob: Persona) -> None:
        services.set_appearance(actor=bob.actor, user=bob.user, theme="dark")
        bob.user.refresh_from_db()
        assert bob.user.theme == "dark"
        with pytest.raises(InvalidInput):
            services.set_appearance(actor=bob.actor, user=bob.user, theme="plaid")


def test_the_permissions_of_every_role_can_be_a_part_of_a_key() -> None:
    """What viewers with the same rights share is kept under their exact set (core.fragments)."""
    assert {type(permissions) for permissions in ROLE_PERMISSIONS.values()} == {frozenset}
