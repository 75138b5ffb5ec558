"""Outcomes of an audited action."""

from django.db import models


class Outcome(models.TextChoices):
    SUCCESS = "success", "Success"
    FAILED = "failed", "Failed"
    DENIED = "denied", "Denied"
