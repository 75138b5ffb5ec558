"""Outcomes of an audited action; kinds of places that the log is sent to."""

from django.db import models


class Outcome(models.TextChoices):
    SUCCESS = "success", "Success"
    FAILED = "failed", "Failed"
    DENIED = "denied", "Denied"


class ExportFormat(models.TextChoices):
    JSONL = "jsonl", "JSON Lines"
    CSV = "csv", "CSV"


class SinkKind(models.TextChoices):
    DATADOG = "datadog", "Datadog"
    SPLUNK = "splunk", "Splunk HEC"
    S3 = "s3", "Amazon S3"
    SYSLOG = "syslog", "Syslog"
    WEBHOOK = "webhook", "Webhook"


class Shipping(models.TextChoices):
    OCSF = "ocsf", "OCSF"
    NATIVE = "native", "Curfew's own"


DATADOG_SITES = (
    "datadoghq.com",
    "us3.datadoghq.com",
    "us5.datadoghq.com",
    "datadoghq.eu",
    "ap1.datadoghq.com",
    "ddog-gov.com",
)
