"""Words of the ledger."""

from django.db import models


class Phase(models.TextChoices):
    """What a resource was doing during an interval, as far as money goes."""

    AWAKE = "awake", "Awake"
    ASLEEP = "asleep", "Asleep"
    GONE = "gone", "Gone"
