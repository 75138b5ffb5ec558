"""Shared bases and the two small tables of the platform itself."""

from __future__ import annotations

import uuid

from django.db import models


class UuidModel(models.Model):
    """Primary key that can be shown in URLs and made before the row exists."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)

    class Meta:
        abstract = True


class Pulse(models.Model):
    """Last sign of life of a part of the platform (sweep, worker, beat), read by /readyz."""

    name = models.CharField(max_length=80, primary_key=True)
    at = models.DateTimeField()
    detail = models.JSONField(default=dict)

    def __str__(self) -> str:
        return f"{self.name} at {self.at:%H:%M:%S}"
