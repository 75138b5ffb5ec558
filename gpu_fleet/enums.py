"""Words and tables of the GPU fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import models

from core.sleepable import SleepState

RESOURCE = "gpu_machine"
# Race losers have intervals of their own, so that what they cost is in the sums.
LOSER = "gpu_race_loser"
WAKE = "gpu.wake"
HIBERNATE = "gpu.hibernate"
SNAPSHOT = "gpu.snapshot"
DESTROY = "gpu.destroy"
RESTORE = "gpu.restore"
MIGRATE = "gpu.migrate"
PAUSE = "gpu.pause"
RESUME = "gpu.resume"
DOZE = "gpu.doze"
FAILOVER = "gpu.failover"
FAILBACK = "gpu.failback"
RECOVER = "gpu.recover"
RELEASE = "gpu.standby_release"
VIEW = "gpu.view"
OPERATE = "gpu.operate"
MANAGE = "gpu.manage"
TOPIC = "gpu"
HEARTBEAT_SECONDS = 30
BUSY_HEARTBEAT_SECONDS = 2
# Without a heartbeat for so many intervals a machine is lost.
LOST_BEATS = 3
UNMEASURED_SECONDS = 60
# Who may serve holds a lease for so long, and asks for it anew so often.
LEASE_SECONDS = 8.0
RENEW_SECONDS = 2.0
STANDBY_HEARTBEAT_SECONDS = 3


class Desired(models.TextChoices):
    AWAKE = "awake", "Awake"
    ASLEEP = "asleep", "Asleep"
    GONE = "gone", "Gone"


class State(models.TextChoices):
    """The eight words of the interface, as choices."""

    AWAKE = SleepState.AWAKE.value, "Awake"
    ASLEEP = SleepState.ASLEEP.value, "Asleep"
    WAKING = SleepState.WAKING.value, "Waking"
    FALLING = SleepState.FALLING.value, "Falling asleep"
    CONTESTED = SleepState.CONTESTED.value, "Contested"
    TROUBLE = SleepState.TROUBLE.value, "Trouble"
    LOST = SleepState.LOST.value, "Lost"
    UNMANAGED = SleepState.UNMANAGED.value, "Unmanaged"


class Lane(models.TextChoices):
    """Where a rental is in its life. Nothing leaves CLOSING but by a provider's read that proves it GONE."""

    INTENDED = "intended", "Asked for"
    CREATED = "created", "Rented"
    RUNNING = "running", "Running"
    READY = "ready", "Ready"
    WON = "won", "In use"
    CLOSING = "closing", "Being destroyed"
    GONE = "gone", "Gone"
    NEVER = "never", "Never existed"


OPEN_LANES = (Lane.INTENDED, Lane.CREATED, Lane.RUNNING, Lane.READY)
DONE_LANES = (Lane.GONE, Lane.NEVER)


class SnapshotState(models.TextChoices):
    WRITING = "writing", "Being written"
    WRITTEN = "written", "Not yet verified"
    VERIFIED = "verified", "Verified"
    FAILED = "failed", "Failed"
    DELETED = "deleted", "Deleted"


class Side(models.TextChoices):
    """Who of the two serves."""

    NOBODY = "", "Nobody"
    GPU = "gpu", "The GPU machine"
    CPU = "cpu", "The standby"


class StandbyState(models.TextChoices):
    OFF = "off", "Off"
    PREPARING = "preparing", "Being rented"
    SYNCING = "syncing", "First copy"
    READY = "ready", "Standing by"
    SWITCHING = "switching", "Changing sides"
    SERVING = "serving", "Serving"
    TROUBLE = "trouble", "Trouble"


class StorageKind(models.TextChoices):
    LOCAL = "local", "A folder on this server"
    S3 = "s3", "S3 or R2"
    RCLONE = "rclone", "A remote of rclone"


@dataclass(frozen=True, slots=True)
class ProviderWords:
    """How a provider is called and drawn; whether a rented machine there can reach a folder of this server."""

    label: str
    icon: str
    shares_folders: bool = False
    stopped_is_billed: bool = True


PROVIDERS: Mapping[str, ProviderWords] = {
    "vast": ProviderWords("Vast.ai", "server-bolt"),
    "aws": ProviderWords("EC2", "brand-aws"),
    "gcp": ProviderWords("Compute Engine", "cloud"),
    "docker": ProviderWords("Local Docker", "brand-docker", shares_folders=True, stopped_is_billed=False),
}


def provider_words(provider: str) -> ProviderWords:
    """Words of a provider, or its own name."""
    return PROVIDERS.get(provider) or ProviderWords(provider.capitalize(), "cloud")
