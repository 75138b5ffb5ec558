"""Words of clusters: states, ways to connect, spans of history, alerts."""

from __future__ import annotations

from datetime import timedelta

from django.db import models

RESOURCE = "cluster"
HOURS_PER_MONTH = 730


class State(models.TextChoices):
    """How a cluster is doing. Asleep is on purpose and is never taken for lost."""

    CONNECTING = "connecting", "Connecting"
    LIVE = "live", "Live"
    LOST = "lost", "Lost"
    ASLEEP = "asleep", "Asleep"
    ERROR = "error", "Error"


# The eight words of the interface for our states; connecting and maintenance have a chip of their own.
WORDS: dict[str, str] = {
    State.LIVE: "awake",
    State.ASLEEP: "asleep",
    State.LOST: "lost",
    State.ERROR: "trouble",
}


class Method(models.TextChoices):
    """How the platform learns about a cluster."""

    AGENT = "agent", "Agent"
    KUBECONFIG = "kubeconfig", "Kubeconfig"
    EKS = "eks", "EKS API"


class Distribution(models.TextChoices):
    """What runs the control plane."""

    UNKNOWN = "", "Kubernetes"
    EKS = "eks", "EKS"
    GKE = "gke", "GKE"
    AKS = "aks", "AKS"
    KOPS = "kops", "kOps"
    K3S = "k3s", "K3s"
    OTHER = "other", "Kubernetes"


class Environment(models.TextChoices):
    """What a cluster is for, as its owner says."""

    UNKNOWN = "", "Not set"
    PRODUCTION = "prod", "Prod"
    STAGING = "staging", "Staging"
    DEVELOPMENT = "dev", "Dev"


class Span(models.TextChoices):
    """How much time one row of history sums up."""

    FIVE_MINUTES = "5m", "Five minutes"
    HOUR = "1h", "An hour"
    DAY = "1d", "A day"


SPAN_LENGTH = {
    Span.FIVE_MINUTES: timedelta(minutes=5),
    Span.HOUR: timedelta(hours=1),
    Span.DAY: timedelta(days=1),
}
SPAN_KEPT = {
    Span.FIVE_MINUTES: timedelta(days=8),
    Span.HOUR: timedelta(days=92),
    Span.DAY: timedelta(days=1100),
}


class Severity(models.TextChoices):
    """How urgent an alert is."""

    INFO = "info", "For information"
    WARNING = "warning", "Warning"
    CRITICAL = "critical", "Critical"


CLOUDS = {"aws": "aws", "gce": "gcp", "azure": "azure"}
DISTRIBUTION_CLOUD = {Distribution.EKS: "aws", Distribution.GKE: "gcp", Distribution.AKS: "azure"}
CLOUD_LABELS = {"aws": "AWS", "gcp": "Google Cloud", "azure": "Azure", "": "Elsewhere"}


def cloud_of(provider_id: str) -> str:
    """The cloud that a node's provider id names (`aws:///us-east-1a/i-...`); "" when it names none that we know."""
    return CLOUDS.get(provider_id.partition(":")[0], "")


def environment_of(text: str) -> str:
    """An environment from a tag or label; "" when it is none of ours."""
    word = text.strip().lower()
    if word.startswith("prod") or word == "live":
        return Environment.PRODUCTION
    if word.startswith(("stag", "preprod", "uat", "qa")):
        return Environment.STAGING
    return Environment.DEVELOPMENT if word.startswith(("dev", "test", "sandbox")) else Environment.UNKNOWN
