"""Make `types.csv` and `prices.csv` from tables of public facts: `python -m policies.catalogue.build DIRECTORY`.

The directory holds `ec2_instance_types.csv.gz` (DescribeInstanceTypes and the network limits), `karpenter_node_allocatable.csv.gz`
(what the kubelet leaves to pods) and `joined_linux_5regions.csv.gz` (list prices and the Spot Advisor), all under
licences that allow to pass them on (Apache-2.0, MIT, MIT-0).
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
TYPES = (
    "type", "arch", "vcpu", "memory_mib", "gpu", "gpus", "gpu_mib", "accelerator", "local_disk_gb", "burstable",
    "bare_metal", "spot", "current", "hypervisor", "pods", "network_mbps", "allocatable_milli", "allocatable_mib",
)  # fmt: skip
PRICES = ("region", "type", "on_demand", "as_of", "spot_saving", "interruption")
BANDS = {"<5%": 0, "5-10%": 1, "10-15%": 2, "15-20%": 3, ">20%": 4}
ARCH = {"x86_64": "amd64", "i386|x86_64": "amd64", "arm64": "arm64"}


def _rows(directory: Path, name: str) -> Iterator[dict[str, str]]:
    path = next(directory.rglob(name))
    with gzip.open(path, "rt", newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _flag(text: str) -> int:
    return int(text == "True")


def types(directory: Path) -> Iterator[list[str | int]]:
    """One line for each type that can be a node: macOS machines cannot."""
    kept = {row["instance_type"]: row for row in _rows(directory, "karpenter_node_allocatable.csv.gz")}
    for row in _rows(directory, "ec2_instance_types.csv.gz"):
        if row["arch"] not in ARCH:
            continue
        left = kept.get(row["instance_type"], {})
        yield [
            row["instance_type"],
            ARCH[row["arch"]],
            row["vcpu"],
            row["memory_mib"],
            row["gpu_name"],
            row["gpu_count"],
            row["gpu_mem_mib_total"],
            row["other_accelerator"].partition(":")[2],
            row["local_disk_gb"],
            _flag(row["burstable"]),
            _flag(row["bare_metal"]),
            _flag(row["spot_supported"]),
            _flag(row["current_generation"]),
            row["hypervisor"],
            row["eni_max_pods"],
            row["network_bandwidth_mbps"],
            (left.get("allocatable_cpu") or "").removesuffix("m"),
            (left.get("allocatable_memory") or "").removesuffix("Mi"),
        ]


def prices(directory: Path) -> Iterator[list[str | int]]:
    """The newest list price of each type and region, and what spot saved in the month of the Spot Advisor."""
    for row in _rows(directory, "joined_linux_5regions.csv.gz"):
        newest = row["ondemand_usd_us-east-1_2026-07-20"] if row["region"] == "us-east-1" else ""
        price, day = (newest, "2026-07-20") if newest else (row["ondemand_usd_2025-04-04"], "2025-04-04")
        if not price:
            continue
        saving = row["spot_savings_pct_2025-06"]
        yield [row["region"], row["instance_type"], price, day, saving, BANDS.get(row["interruption_band_2025-06"], "")]


def _write(name: str, header: tuple[str, ...], rows: Iterator[list[str | int]]) -> None:
    with (HERE / name).open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        ordered: list[list[str | int]] = sorted(rows, key=lambda row: f"{row[0]} {row[1]}")
        writer.writerows(ordered)


if __name__ == "__main__":
    source = Path(sys.argv[1])
    _write("types.csv", TYPES, types(source))
    _write("prices.csv", PRICES, prices(source))
