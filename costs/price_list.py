"""A small price book that comes with the program: list prices of common machines, with source and date.

USD per hour, on demand, Linux. Everything else is imported by `manage.py refresh_prices`, or is "no data".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from decimal import Decimal

_AWS = "AWS list price, Linux, on demand, as published in karpenter-provider-aws"
_AZURE = "Azure list price, Linux, pay as you go, as published in karpenter-provider-azure"
_GCP = "Google Cloud list price as published in google-cloud-pricing-cost-calculator"

_BOOKS: tuple[tuple[str, str, str, date, str], ...] = (
    (
        "aws",
        "us-east-1",
        _AWS,
        date(2026, 7, 20),
        """t2.micro 0.0116 t3.micro 0.0104 t3.small 0.0208 t3.medium 0.0416 t3.large 0.0832
        m5.large 0.096 m5.xlarge 0.192 m5.2xlarge 0.384 m5.4xlarge 0.768 m5.8xlarge 1.536 m5.12xlarge 2.304
        m5.16xlarge 3.072 m5.24xlarge 4.608 m6i.large 0.096 m6i.xlarge 0.192
        c5.large 0.085 c5.xlarge 0.17 c5.2xlarge 0.34 c5.4xlarge 0.68 c5.9xlarge 1.53
        r5.large 0.126 r5.xlarge 0.252 r5.2xlarge 0.504
        g4dn.xlarge 0.526 g4dn.2xlarge 0.752 g4dn.4xlarge 1.204 g4dn.8xlarge 2.176 g4dn.12xlarge 3.912 g4dn.metal 7.824
        g5.xlarge 1.006 g5.2xlarge 1.212 g5.4xlarge 1.624 g5.8xlarge 2.448 g5.12xlarge 5.672 g5.48xlarge 16.288
        g6.xlarge 0.8048 g6.2xlarge 0.9776 g6e.xlarge 1.861
        p3.2xlarge 3.06 p3.8xlarge 12.24 p3.16xlarge 24.48
        p4d.24xlarge 21.957642 p4de.24xlarge 27.44705 p5.48xlarge 55.04""",
    ),
    (
        "azure",
        "eastus",
        _AZURE,
        date(2026, 6, 18),
        """Standard_D2s_v5 0.096 Standard_D4s_v5 0.192
        Standard_NC4as_T4_v3 0.526 Standard_NC8as_T4_v3 0.752 Standard_NC16as_T4_v3 1.204 Standard_NC64as_T4_v3 4.352
        Standard_NV6ads_A10_v5 0.454 Standard_NV36ads_A10_v5 3.2
        Standard_NC24ads_A100_v4 3.673 Standard_NC48ads_A100_v4 7.346 Standard_NC96ads_A100_v4 14.692
        Standard_NC40ads_H100_v5 6.98 Standard_ND96isr_H100_v5 98.32""",
    ),
    (
        "gcp",
        "us-central1",
        _GCP,
        date(2026, 7, 30),
        """e2-standard-2 0.06701142 e2-standard-4 0.13402284 n1-standard-4 0.189999
        g2-standard-4 0.70683226 g2-standard-8 0.85362427 a2-highgpu-1g 3.673385 a3-highgpu-8g 88.4899999""",
    ),
)


def built_in() -> Iterator[tuple[str, str, str, Decimal, str, date]]:
    """(provider, region, instance type, USD per hour, source, as of) of every built-in price."""
    for provider, region, source, as_of, text in _BOOKS:
        words = text.split()
        for name, hourly in zip(words[::2], words[1::2], strict=True):
            yield provider, region, name, Decimal(hourly), source, as_of
