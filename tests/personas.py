"""The people of every test: alice (owner) and bob (viewer) of Larkspur, mallory (owner) of another organization."""

from __future__ import annotations

from dataclasses import dataclass

from accounts import selectors
from accounts.models import CloudAccount, Membership, Organization, User
from core.actor import Actor

PASSWORD = "a long walk at dusk"
PASSWORD_HASH = "plain$" + PASSWORD


@dataclass(frozen=True)
class Persona:
    """A person, their organization and the actor that services take."""

    user: User
    organization: Organization
    actor: Actor

    @property
    def email(self) -> str:
        return self.user.email


def make_organization(name: str) -> Organization:
    return Organization.objects.create(name=name, timezone="UTC")


def make_person(name: str, organization: Organization, role: str) -> Persona:
    user = User.objects.create_user(f"{name}@{organization.name.lower()}.test", PASSWORD, name=name.capitalize())
    Membership.objects.for_org(organization).create(organization=organization, user=user, role=role)
    caller = selectors.caller_for(user, organization.id)
    assert caller is not None
    return Persona(user, organization, caller.actor)


def make_account(
    organization: Organization, provider: str = "aws", number: str = "111122223333", **fields: object
) -> CloudAccount:
    """An active cloud account without credentials."""
    facts = {
        "name": f"{organization.name} {provider}",
        "region": "us-east-1",
        "method": "keys",
        "status": "active",
        **fields,
    }
    return CloudAccount.objects.for_org(organization).create(
        organization=organization, provider=provider, number=number, **facts
    )
