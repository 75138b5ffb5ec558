"""Choices and transition tables of people and cloud accounts."""

from django.db import models


class Role(models.TextChoices):
    OWNER = "owner", "Owner"
    ADMIN = "admin", "Admin"
    OPERATOR = "operator", "Operator"
    VIEWER = "viewer", "Viewer"


class Provider(models.TextChoices):
    AWS = "aws", "AWS"
    AZURE = "azure", "Azure"
    GCP = "gcp", "GCP"
    DOCKER = "docker", "Docker"
    VAST = "vast", "Vast.ai"
    S3 = "s3", "S3 storage"


class Method(models.TextChoices):
    NONE = "", "Not connected"
    ROLE = "role", "Role-Based"
    KEYS = "keys", "Access Key"
    SERVICE_PRINCIPAL = "service_principal", "Service principal"
    SERVICE_ACCOUNT = "service_account", "Service account"
    LOCAL = "local", "Local socket"
    TLS = "tls", "TLS host"
    API_KEY = "api_key", "API key"


class Theme(models.TextChoices):
    SYSTEM = "", "As the system says"
    LIGHT = "light", "Light"
    DARK = "dark", "Dark"


class AgentKind(models.TextChoices):
    CLUSTER = "cluster", "Cluster"
    WORKER = "worker", "Worker"
    MACHINE = "machine", "Machine"


class AccountStatus(models.TextChoices):
    PENDING = "pending", "Pending"
    SCANNING = "scanning", "Scanning"
    ACTIVE = "active", "Active"
    ERROR = "error", "Error"


ACCOUNT_TRANSITIONS: dict[str, frozenset[str]] = {
    AccountStatus.PENDING: frozenset({AccountStatus.SCANNING, AccountStatus.ERROR}),
    AccountStatus.SCANNING: frozenset({AccountStatus.ACTIVE, AccountStatus.ERROR, AccountStatus.SCANNING}),
    AccountStatus.ACTIVE: frozenset({AccountStatus.SCANNING, AccountStatus.ERROR}),
    AccountStatus.ERROR: frozenset({AccountStatus.SCANNING, AccountStatus.ACTIVE, AccountStatus.ERROR}),
}
