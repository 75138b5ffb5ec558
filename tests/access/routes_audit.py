"""Routes of the log's governance and of notifications."""

from __future__ import annotations

from audit import services as audit
from audit.models import AuditExport, SavedView, Sink
from core import clock
from notifications.models import Channel, Delivery
from tests.access.matrix import Route, World, api, page


def build(world: World) -> None:
    """An export, a saved view, a destination, a channel and a message that was given up."""
    organization, now = world.alice.organization, clock.now()
    audit.record_alone(actor=world.alice.actor, verb="access.denied")
    for _ in audit.start_export(actor=world.alice.actor, file_format="csv", period="all").chunks:
        pass
    export = AuditExport.objects.for_org(organization).get()
    view = SavedView.objects.for_org(organization).create(
        organization=organization, user=world.alice.user, name="mine", query="q=x"
    )
    sink = Sink.objects.for_org(organization).create(
        organization=organization,
        name="s",
        kind="webhook",
        options={"url": "http://127.0.0.1:9/"},
        not_before=now,
        created_at=now,
    )
    channel = Channel.objects.for_org(organization).create(
        organization=organization, name="c", kind="email", addresses=["a@b.test"], created_at=now
    )
    dead = Delivery.objects.for_org(organization).create(
        organization=organization,
        channel=channel,
        event="notifications.test",
        subject="x",
        state="dead",
        not_before=now,
        created_at=now,
    )
    world.ids.update(
        export=str(export.id), view=str(view.id), sink=str(sink.id), channel=str(channel.id), message=str(dead.id)
    )


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


ROUTES = [
    page("/audit/compliance", viewer=403, operator=403),
    _post("/audit/exports", 403, 403, 200, 200, {"format": "csv", "period": "30d"}),
    page("/audit/exports/{export}/sidecar", viewer=403, operator=403, stranger=404),
    page("/audit/verifier", viewer=403, operator=403),
    _post("/audit/settings", 403, 403, 302, 302, {"retention_days": "365"}),
    _post(
        "/audit/destinations",
        403,
        403,
        422,
        422,
        {"name": "x", "kind": "webhook", "shape": "ocsf", "url": "http://127.0.0.1/"},
    ),
    _post("/audit/destinations/{sink}/off", 403, 403, 302, 404),
    _post("/audit/destinations/{sink}/remove", 403, 403, 302, 404),
    _post("/audit/views", 403, 403, 302, 302, {"name": "x", "query": "q=1"}),
    _post("/audit/views/{view}/remove", 404, 404, 302, 404),
    api(
        "POST",
        "/api/audit/exports",
        viewer=403,
        operator=403,
        owner=200,
        stranger=200,
        body={"format": "jsonl", "period": "all"},
    ),
    api("GET", "/api/audit/exports/{export}", viewer=403, operator=403, owner=200, stranger=404),
    api("GET", "/api/audit/settings", viewer=403, operator=403, owner=200, stranger=200),
    api(
        "PUT",
        "/api/audit/settings",
        viewer=403,
        operator=403,
        owner=200,
        stranger=200,
        body={"retention_days": None, "legal_hold": False},
    ),
    page("/settings/notifications"),
    page("/settings/notifications/messages"),
    _post(
        "/settings/notifications/channels",
        403,
        403,
        302,
        302,
        {
            "channel-name": "x",
            "channel-kind": "email",
            "channel-addresses": "a@b.test",
            "channel-digest_minutes": "0",
            "channel-hourly_limit": "9",
        },
    ),
    _post("/settings/notifications/channels/{channel}/off", 403, 403, 302, 404),
    _post(
        "/settings/notifications/preferences", 302, 302, 302, 302, {"mine-enabled": "on", "mine-digest_minutes": "0"}
    ),
    _post("/settings/notifications/messages/{message}/retry", 403, 403, 302, 404),
    Route("GET", "/settings/notifications/stop/forged", 404, 404, 404, 404, 404),
]
