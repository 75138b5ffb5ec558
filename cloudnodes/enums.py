"""Words and tables of cloud nodes: providers, GPU tiers, what each provider bills, how long a start may take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from django.db import models

from core.sleepable import SleepState

RESOURCE = "cloud_node"
START = "node.start"
STOP = "node.stop"
# Codes under which a page leads to the account's credentials, whatever finer code a provider had for it.
CREDENTIALS_REFUSED = "credentials_refused"
PERMISSION_MISSING = "permission_missing"
ACCOUNT_CODES = frozenset({CREDENTIALS_REFUSED, PERMISSION_MISSING})
# What the step of an order says behind the provider's name while that lets us wait.
SLOW = " is slow:"
# What a countdown starts from while nothing was measured.
UNMEASURED_SECONDS = 60


class Desired(models.TextChoices):
    """What somebody last asked for."""

    AWAKE = "awake", "Awake"
    ASLEEP = "asleep", "Asleep"


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


class Power(models.TextChoices):
    """What a provider last said: the values of `providers.base.InstanceState`, for rows and rules (a test compares)."""

    RUNNING = "running", "Running"
    STARTING = "starting", "Starting"
    STOPPING = "stopping", "Stopping"
    STOPPED = "stopped", "Stopped"
    STOPPED_BILLING = "stopped_billing", "Stopped, still billed"
    GONE = "gone", "Gone"
    UNKNOWN = "unknown", "Unknown"


class Scales(models.TextChoices):
    """Who scales a node: the values of `providers.base.Scaling`."""

    MANUAL = "manual", "By hand"
    TO_ZERO = "to_zero", "To zero, by itself"


class ErrorOn(models.TextChoices):
    """Which order an error belongs to."""

    NONE = "", "No error"
    START = "start", "Waking"
    STOP = "stop", "Putting to sleep"


@dataclass(frozen=True, slots=True)
class ProviderWords:
    """How a provider is called and drawn in the grid; `start_seconds` is how long a start may take."""

    label: str
    icon: str
    start_seconds: int
    stop_seconds: int = 600


PROVIDERS: Mapping[str, ProviderWords] = {
    "aws": ProviderWords("AWS", "brand-aws", 600),
    "azure": ProviderWords("Azure", "brand-azure", 900),
    "gcp": ProviderWords("GCP", "brand-google", 600),
    "docker": ProviderWords("Local", "brand-docker", 120, 120),
}
DEFAULT_PROVIDER = ProviderWords("Other", "cloud", 600)
# Columns that the grid always has; others appear with their first account or node.
FIXED_COLUMNS: tuple[str, ...] = ("aws", "azure", "gcp")


def provider_words(provider: str) -> ProviderWords:
    return PROVIDERS.get(provider, DEFAULT_PROVIDER)


@dataclass(frozen=True, slots=True)
class TierWords:
    """How a GPU tier is called."""

    label: str
    hint: str = ""
    recommended: bool = False


TIERS: Mapping[str, TierWords] = {
    "t4": TierWords("T4", "Cost-Effective"),
    "l4": TierWords("L4", "Efficient"),
    "a10g": TierWords("A10G", "Recommended", recommended=True),
    "a100": TierWords("A100", "Fastest"),
    "rtx-pro-6000": TierWords("RTX PRO 6000", "Largest models"),
    "cpu": TierWords("CPU", "No GPU"),
}
DEFAULT_TIER = "cpu"

# The only GPUs of Cloud Run, which is what the provider "gcp" is.
_CLOUD_RUN = frozenset({"l4", "rtx-pro-6000", DEFAULT_TIER})


def not_offered(provider: str, tier: str) -> str:
    """Why a provider cannot have a node of this tier at all; "" when it can."""
    if provider == "gcp" and tier not in _CLOUD_RUN:
        return "Cloud Run has L4 and RTX PRO 6000 GPUs only"
    return ""


# GPU families by the beginning of the type's name: what the clouds' own catalogues say is inside.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("g4dn.", "t4"),
    ("g5.", "a10g"),
    ("g6.", "l4"),
    ("gr6.", "l4"),
    ("g7e.", "rtx-pro-6000"),
    ("p4d.", "a100"),
    ("p4de.", "a100"),
    ("p5.", "h100"),
    ("p3.", "v100"),
    ("nvidia-l4", "l4"),
    ("nvidia-rtx-pro-6000", "rtx-pro-6000"),
    ("nvidia-tesla-t4", "t4"),
    ("nvidia-a100", "a100"),
)
_AZURE_FAMILIES: tuple[tuple[str, str], ...] = (
    ("_t4_", "t4"),
    ("_a100_", "a100"),
    ("_a10_", "a10g"),
    ("_h100_", "h100"),
)


def subject_of(provider: str, instance_type: str) -> str:
    """What learned durations are kept for: `aws/g5.xlarge`."""
    return f"{provider}/{instance_type}"[:120]


def tier_words(tier: str) -> TierWords:
    """Words of a known tier, or its own name in capitals."""
    return TIERS.get(tier) or TierWords(tier.upper())


def tier_rank(tier: str) -> tuple[int, str]:
    """Known tiers in their order, others after them by name."""
    known = list(TIERS)
    return (known.index(tier) if tier in known else len(known), tier)


def tier_of(instance_type: str) -> str:
    """The GPU tier that a machine type has inside; `cpu` when no known GPU family is named."""
    name = instance_type.lower()
    for start, tier in _FAMILIES:
        if name.startswith(start):
            return tier
    for part, tier in _AZURE_FAMILIES:
        if part in f"{name}_":
            return tier
    return DEFAULT_TIER
