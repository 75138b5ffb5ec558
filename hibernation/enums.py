"""Fixed words of hibernation."""

from __future__ import annotations

from django.db import models


class Wanted(models.TextChoices):
    """What a schedule wants of a resource; NOTHING when it holds no opinion yet."""

    NOTHING = "", "No opinion"
    AWAKE = "awake", "Awake"
    ASLEEP = "asleep", "Asleep"


class Order(models.TextChoices):
    """What a person ordered beside the schedule."""

    WAKE = "wake", "Wake"
    SLEEP = "sleep", "Sleep"
    SNOOZE = "snooze", "Snooze"


class Outcome(models.TextChoices):
    """What became of a decision when it was made; the operation tells the rest."""

    ORDERED = "ordered", "Ordered"
    REFUSED = "refused", "Refused"
    RESPECTED = "respected", "Left as somebody changed it"


PERMISSION_VIEW = "hibernation.view"
PERMISSION_OPERATE = "hibernation.operate"
PERMISSION_MANAGE = "hibernation.manage"
