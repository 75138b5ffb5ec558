"""The ledger: append-only events, intervals derived from them, dated prices, budgets."""

from __future__ import annotations

from django.db import models

from core.models import UuidModel
from core.tenancy import OrgOwned
from costs.enums import Phase


def money_field(*, null: bool = False) -> models.DecimalField:
    """Dollars an hour or an amount: eighteen digits, eight of them after the point."""
    return models.DecimalField(max_digits=18, decimal_places=8, null=null)


class UsageEvent(OrgOwned):
    """ "From `at` on, this resource is in `phase`", as somebody observed it. Never changed; `key` makes repeats harmless."""

    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    at = models.DateTimeField()
    phase = models.CharField(max_length=10, choices=Phase.choices)
    key = models.CharField(max_length=120)
    source = models.CharField(max_length=80)
    resource_label = models.CharField(max_length=300)
    cause = models.CharField(max_length=20, blank=True)
    team = models.CharField(max_length=80, blank=True)
    person = models.CharField(max_length=80, blank=True)
    operation_id = models.UUIDField(null=True)
    recorded_at = models.DateTimeField(auto_now_add=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["resource_kind", "resource_id", "key"], name="usage_event_once")]
        indexes = [models.Index(fields=["resource_kind", "resource_id", "at"], name="usage_event_order")]

    def __str__(self) -> str:
        return f"{self.resource_kind} {self.phase} from {self.at}"


class ResourcePrice(OrgOwned):
    """What one resource costs an hour from a moment on, with where the figure comes from."""

    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    valid_from = models.DateTimeField()
    awake = money_field(null=True)
    asleep = money_field(null=True)
    source = models.CharField(max_length=200)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["resource_kind", "resource_id", "valid_from"], name="resource_price_once")
        ]

    def __str__(self) -> str:
        return f"{self.awake}/h from {self.valid_from}"


class Interval(UuidModel, OrgOwned):
    """This resource was awake or asleep from `started_at` to `ended_at` (None: still is) at this price. All money is sums of these."""

    resource_kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    resource_label = models.CharField(max_length=300)
    phase = models.CharField(max_length=10, choices=Phase.choices)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    price = money_field(null=True)
    awake_price = money_field(null=True)
    price_source = models.CharField(max_length=200, blank=True)
    cause = models.CharField(max_length=20, blank=True)  # schedule, idle, hand, budget: why it fell asleep
    team = models.CharField(max_length=80, blank=True)
    person = models.CharField(max_length=80, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(
                fields=["resource_kind", "resource_id"],
                condition=models.Q(ended_at=None),
                name="interval_one_open_per_resource",
            ),
            models.CheckConstraint(
                condition=models.Q(ended_at=None) | models.Q(ended_at__gt=models.F("started_at")),
                name="interval_forward",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "started_at"], name="interval_by_start"),
            models.Index(fields=["organization", "ended_at"], name="interval_by_end"),
            models.Index(fields=["resource_kind", "resource_id", "started_at"], name="interval_of_resource"),
        ]

    def __str__(self) -> str:
        return f"{self.resource_label} {self.phase} from {self.started_at}"


class CatalogPrice(models.Model):
    """The price book: list price of a type in a region, with source and date. Public facts, not tenant data."""

    provider = models.CharField(max_length=10)
    region = models.CharField(max_length=40)
    instance_type = models.CharField(max_length=60)
    lifecycle = models.CharField(max_length=12, default="on_demand")
    hourly = money_field()
    currency = models.CharField(max_length=3, default="USD")
    source = models.CharField(max_length=200)
    as_of = models.DateField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["provider", "region", "instance_type", "lifecycle", "as_of"], name="catalog_price_once"
            ),
        ]
        indexes = [models.Index(fields=["provider", "instance_type", "region", "-as_of"], name="catalog_price_lookup")]

    def __str__(self) -> str:
        return f"{self.provider} {self.region} {self.instance_type} {self.hourly}"


class Budget(UuidModel, OrgOwned):
    """DAILY SPEND of the organization, a team or a person."""

    scope = models.CharField(max_length=12, default="organization")
    subject = models.CharField(max_length=80, blank=True)
    period = models.CharField(max_length=8, default="day")
    amount = models.DecimalField(max_digits=12, decimal_places=2)
    settings = models.JSONField(default=dict)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "scope", "subject", "period"], name="budget_once")
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.amount}/{self.period}"


class BudgetStep(UuidModel, OrgOwned):
    """What a budget did once in one of its periods: a warning, the first refusal, one thing put to sleep.

    The row is written in the transaction that does it, so nothing is done twice, whoever checks and however often.
    """

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="+")
    window = models.DateTimeField()
    step = models.CharField(max_length=160)
    at = models.DateTimeField()
    percent = models.PositiveIntegerField()
    detail = models.CharField(max_length=300, blank=True)
    operation_id = models.UUIDField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["budget", "window", "step"], name="budget_step_once")]

    def __str__(self) -> str:
        return self.detail or self.step


class LedgerSlot(OrgOwned):
    """A stretch of an organization's ledger that is summed up: a local day that is over, or today so far.

    `version` is raised by whoever changes intervals in it; it may be read while `built_version` equals it.
    """

    grain = models.CharField(max_length=4)
    start = models.DateTimeField()
    end = models.DateTimeField()
    version = models.PositiveIntegerField(default=0)
    built_version = models.PositiveIntegerField(null=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "start", "end"], name="ledger_slot_once"),
            models.CheckConstraint(condition=models.Q(end__gt=models.F("start")), name="ledger_slot_forward"),
        ]
        indexes = [models.Index(fields=["organization", "end"], name="ledger_slot_by_end")]

    def __str__(self) -> str:
        return f"{self.start} to {self.end}"


class _Total(models.Model):
    """A sum of intervals in whole numbers: billionths of a dollar and microseconds. Reached through its slot alone."""

    slot = models.ForeignKey(LedgerSlot, on_delete=models.CASCADE, related_name="+")
    spent = models.BigIntegerField()
    saved = models.BigIntegerField()
    awake = models.BigIntegerField()
    asleep = models.BigIntegerField()
    intervals = models.IntegerField()
    carried = models.IntegerField()
    unpriced = models.IntegerField()
    unpriced_carried = models.IntegerField()

    class Meta:
        abstract = True


class ShareTotal(_Total):
    """What one phase, cause, team and person has in a slot."""

    phase = models.CharField(max_length=10)
    cause = models.CharField(max_length=20, blank=True)
    team = models.CharField(max_length=80, blank=True)
    person = models.CharField(max_length=80, blank=True)

    def __str__(self) -> str:
        return f"{self.phase} {self.cause} {self.team} {self.person}"


class ResourceTotal(_Total):
    """What one resource has in a slot."""

    kind = models.CharField(max_length=40)
    resource_id = models.UUIDField()
    label = models.CharField(max_length=300)

    def __str__(self) -> str:
        return self.label
