"""Where people are told, what each wants to hear, and the outbox."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q

from core.models import UuidModel
from core.tenancy import OrgOwned
from notifications.enums import ChannelKind, State


class Channel(UuidModel, OrgOwned):
    """A Slack channel, a list of addresses or a webhook of the organization.

    `events` names what it hears; empty: everything. Quiet hours are local times of `timezone`. `digest_minutes` above
    zero collects messages and sends them together. `hourly_limit` messages an hour at most; what is over goes together.
    """

    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=10, choices=ChannelKind.choices)
    addresses = models.JSONField(default=list)
    secrets = models.TextField(blank=True)
    hint = models.CharField(max_length=120, blank=True)
    enabled = models.BooleanField(default=True)
    events = models.JSONField(default=list)
    quiet_start = models.TimeField(null=True)
    quiet_end = models.TimeField(null=True)
    timezone = models.CharField(max_length=64, default="UTC")
    digest_minutes = models.PositiveIntegerField(default=0)
    hourly_limit = models.PositiveIntegerField(default=60)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="notification_channel_name_once")]

    def __str__(self) -> str:
        return self.name


class Preference(OrgOwned):
    """What one person of an organization wants by e-mail and in their browsers; without a row, nothing.

    Empty `events` and `push_events`: everything. Quiet hours are local times of the person's zone and hold for both;
    the digest is for e-mail.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    enabled = models.BooleanField(default=False)
    events = models.JSONField(default=list)
    push_enabled = models.BooleanField(default=False)
    push_events = models.JSONField(default=list)
    quiet_start = models.TimeField(null=True)
    quiet_end = models.TimeField(null=True)
    digest_minutes = models.PositiveIntegerField(default=0)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "user"], name="notification_preference_once")]

    def __str__(self) -> str:
        return f"{self.user_id}"


class PushSubscription(UuidModel):
    """A browser of a person that takes push messages, whichever of their organizations they come from.

    `secrets` seals the address of the push service and the browser's two keys: who knows them can reach the browser.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+")
    digest = models.CharField(max_length=64, unique=True)
    secrets = models.TextField()
    host = models.CharField(max_length=120)
    browser = models.CharField(max_length=80, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"{self.browser} by {self.host}"


class Delivery(UuidModel, OrgOwned):
    """One message to one place: a row of the outbox. `batch` rows of a place that are due together go as one message.

    The place is a channel, a person's mailbox, one of a person's browsers, or (`address`) somebody who is no member
    yet. `url` and `body` of the last kind may hold a secret link and are emptied once sent.
    """

    channel = models.ForeignKey(Channel, null=True, on_delete=models.CASCADE, related_name="+")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    push = models.ForeignKey(PushSubscription, null=True, on_delete=models.CASCADE, related_name="+")
    address = models.EmailField(blank=True)
    button = models.CharField(max_length=60, blank=True)
    event = models.CharField(max_length=60)
    subject = models.CharField(max_length=200)
    body = models.CharField(max_length=4000, blank=True)
    url = models.CharField(max_length=700, blank=True)
    data = models.JSONField(default=dict)
    dedupe_key = models.CharField(max_length=200, blank=True)
    batch = models.BooleanField(default=False)
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    attempts = models.PositiveIntegerField(default=0)
    not_before = models.DateTimeField()
    lease = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    error = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["channel", "dedupe_key"],
                condition=Q(channel__isnull=False) & ~Q(dedupe_key=""),
                name="notification_once_a_channel",
            ),
            models.UniqueConstraint(
                fields=["organization", "user", "dedupe_key"],
                condition=Q(user__isnull=False) & ~Q(dedupe_key=""),
                name="notification_once_a_person",
            ),
            models.UniqueConstraint(
                fields=["organization", "push", "dedupe_key"],
                condition=Q(push__isnull=False) & ~Q(dedupe_key=""),
                name="notification_once_a_browser",
            ),
        ]
        indexes = [
            models.Index(fields=["not_before"], condition=Q(state="waiting"), name="notification_due"),
            models.Index(fields=["organization", "-created_at"], name="notification_recent"),
            models.Index(fields=["channel", "sent_at"], name="notification_rate"),
        ]

    def __str__(self) -> str:
        return self.subject
