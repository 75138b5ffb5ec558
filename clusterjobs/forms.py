"""How much of a cluster tasks may use, and how they run in it."""

from __future__ import annotations

from typing import Any

from django import forms

from clusterjobs.models import JobPool
from clusters.models import Cluster

_GIB = 1024


class OfferForm(forms.Form):
    cores = forms.DecimalField(
        label="CPU", min_value=0, max_value=1024, decimal_places=1, help_text="Cores, for all tasks together."
    )
    memory = forms.DecimalField(label="Memory", min_value=0, max_value=65536, decimal_places=1, help_text="GiB.")
    storage = forms.DecimalField(
        label="Disk",
        min_value=0,
        max_value=1_000_000,
        decimal_places=1,
        required=False,
        help_text="GiB of the nodes' own disks.",
    )
    gpus = forms.IntegerField(label="GPUs", min_value=0, max_value=64, required=False)
    namespace = forms.CharField(
        label="Namespace",
        max_length=63,
        initial="curfew-tasks",
        help_text="Of its own; it is made when it is not there.",
    )
    pull_secret = forms.CharField(
        label="Pull secret",
        max_length=253,
        required=False,
        help_text="A Secret in that namespace with the registry's password.",
    )
    read_only_root = forms.BooleanField(
        label="Root file system read-only",
        required=False,
        help_text="Only /tmp can be written. Some images do not run so.",
    )
    open = forms.BooleanField(label="Takes new tasks", required=False, initial=True)

    def __init__(self, data: Any = None, *, cluster: Cluster, pool: JobPool | None) -> None:
        super().__init__(data, initial=_stored(pool) if pool else _free(cluster))
        if pool is None:
            del self.fields["open"]

    def chosen(self) -> dict[str, Any]:
        """What the services take."""
        found = self.cleaned_data
        return {
            "cpu": int(found["cores"] * 1000),
            "memory": int(found["memory"] * _GIB),
            "storage": int((found["storage"] or 0) * _GIB),
            "gpus": found["gpus"] or 0,
            "namespace": found["namespace"],
            "pull_secret": found["pull_secret"],
            "read_only_root": found["read_only_root"],
            **({"open": found["open"]} if "open" in found else {}),
        }


# The service's words for a field, under the form's name of it.
NAMES = {"cpu": "cores"}


def _stored(pool: JobPool) -> dict[str, Any]:
    worker = pool.worker
    return {
        "cores": worker.cpu / 1000,
        "memory": round(worker.memory / _GIB, 1),
        "storage": round(worker.storage / _GIB, 1),
        "gpus": worker.gpus,
        "namespace": pool.namespace,
        "pull_secret": pool.pull_secret,
        "read_only_root": pool.read_only_root,
        "open": worker.wanted == "open",
    }


def _free(cluster: Cluster) -> dict[str, Any]:
    """What nothing in the cluster has reserved now."""
    if not cluster.cpu_milli:
        return {}
    return {
        "cores": max(0, cluster.cpu_milli - cluster.requested_cpu_milli) // 100 / 10,
        "memory": max(0, cluster.memory_bytes - cluster.requested_memory_bytes) // 2**30,
        "gpus": cluster.gpus,
    }
