"""Routes of invitations, agents' tokens, organizations and notifications."""

from __future__ import annotations

from accounts import services
from accounts.models import Membership
from core import clock
from notifications import services as notifications
from notifications.models import PushSubscription
from tests.access.matrix import Route, World, api, page
from tests.personas import make_person


def build(world: World) -> None:
    """An open invitation with its link, and an enrolment token."""
    row, link = services.invite(actor=world.alice.actor, email="nina@elsewhere.test", role="viewer")
    agent, _ = services.create_enrolment_token(actor=world.alice.actor, kind="worker", name="Rack 3")
    nils = make_person("nils", world.alice.organization, "viewer")
    world.ids["member"] = str(Membership.objects.for_org(world.alice.organization).get(user=nils.user).id)
    channel, _ = notifications.add_channel(
        actor=world.alice.actor, name="Night watch", kind="email", addresses=["watch@larkspur.test"]
    )
    browser = PushSubscription.objects.create(
        user=world.alice.user,
        digest="0" * 64,
        secrets="sealed",
        host="push.test",
        browser="Firefox",
        created_at=clock.now(),
    )
    world.ids.update(channel=str(channel.id), browser=str(browser.id))
    world.ids.update(invitation=str(row.id), offer=link.rpartition("/")[2], agent=str(agent.id))


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


_INVITED = {"email": "other@elsewhere.test", "role": "viewer"}
ROUTES = [
    api("GET", "/api/members", viewer=200, operator=200, owner=200, stranger=200),
    api("GET", "/api/members/{member}", viewer=200, operator=200, owner=200, stranger=404),
    api("PATCH", "/api/members/{member}", viewer=403, operator=403, owner=200, stranger=404, body={"role": "admin"}),
    api("DELETE", "/api/members/{member}", viewer=403, operator=403, owner=204, stranger=404),
    api("GET", "/api/invitations", viewer=403, operator=403, owner=200, stranger=200),
    api("POST", "/api/invitations", viewer=403, operator=403, owner=201, stranger=201, body=_INVITED),
    api("POST", "/api/invitations/{invitation}/resend", viewer=403, operator=403, owner=200, stranger=404),
    api("DELETE", "/api/invitations/{invitation}", viewer=403, operator=403, owner=204, stranger=404),
    _post("/settings/members/invite", 403, 403, 201, 201, {"email": "new@elsewhere.test", "role": "viewer"}),
    _post("/settings/members/invitations/{invitation}/resend", 403, 403, 200, 404),
    _post("/settings/members/invitations/{invitation}/revoke", 403, 403, 302, 404),
    Route("GET", "/invitations/{offer}", 200, 200, 200, 200, 200),
    Route("POST", "/invitations/{offer}", 302, 200, 200, 200, 200, {"password": "a long walk at dusk"}),
    Route("GET", "/invitations/forged", 404, 404, 404, 404, 404),
    page("/settings/organization"),
    page("/settings/agents", viewer=403, operator=403),
    _post("/settings/agents", 403, 403, 201, 201, {"kind": "worker", "name": "Rack 4", "hours": "24"}),
    _post("/settings/agents/{agent}/revoke", 403, 403, 302, 404),
    _post("/settings/organizations/new", 302, 302, 302, 302, {"new-name": "Second house"}),
    Route("GET", "/account/sso/login", 404, 404, 404, 404, 404),  # none is set up
    Route("GET", "/account/sso/callback", 404, 404, 404, 404, 404),
    _post("/settings/security/sso/unlink", 404, 404, 404, 404),
    _post("/settings/security/sessions/999999/end", 404, 404, 404, 404),
    _post("/settings/security/confirm", 302, 302, 302, 302),
    page("/settings/my-data"),
    _post("/settings/my-data/export", 302, 302, 302, 302),
    page("/settings/my-data/{key}/download", viewer=404, owner=404, stranger=404),
    page("/settings/my-data/delete-me", viewer=302, owner=302, stranger=302),  # is it still you?
    page("/settings/organization/close", viewer=403, owner=302, stranger=302),
    page("/settings/notifications/mine"),
    page("/settings/notifications/channels/{channel}", viewer=403, operator=403, stranger=404),
    _post(
        "/settings/notifications/channels/{channel}",
        403,
        403,
        302,
        404,
        {"name": "Day watch", "digest_minutes": "0", "hourly_limit": "60"},
    ),
    _post("/settings/notifications/browsers", 422, 422, 422, 422, {"endpoint": "https://push.test/x"}),
    _post("/settings/notifications/browsers/{browser}/remove", 404, 404, 302, 404),
]
