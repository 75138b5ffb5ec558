"""Node templates and two policies of the demo, made by its owner through the ordinary services. They recommend; nothing
of them acts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from clusters.models import Cluster
from core.actor import Actor
from core.errors import CurfewError
from policies import services
from policies.models import NodeTemplate, Policy
from policies.rightsizing import reporting

log = logging.getLogger(__name__)
TEMPLATES: tuple[Mapping[str, Any], ...] = (
    {
        "name": "Production general",
        "description": "Storefront, APIs and the data behind them. Ask the platform team before changing it.",
        "families": ["m5", "m6i", "c5", "c6i", "r5"],
        "architectures": ["amd64"],
        "excluded_sizes": ["nano", "micro", "small"],
        "purchasing": "hybrid",
        "on_demand_base": 2,
        "on_demand_percent": 30,
        "region": "us-east-1",
    },
    {
        "name": "GPU workloads",
        "description": "Nodes for renders and models.",
        "families": ["g4dn", "g5", "g6"],
        "architectures": ["amd64"],
        "purchasing": "on_demand",
        "disk_gib": 200,
        "region": "us-east-1",
    },
    {
        "name": "Batch on Graviton",
        "description": "Anything that may be repeated.",
        "families": ["c6g", "c7g", "m6g", "m7g"],
        "architectures": ["arm64"],
        "purchasing": "spot",
        "strategy": "lowest_price",
        "disk_gib": 50,
        "region": "us-west-2",
    },
)
FIRST: Mapping[str, Any] = {"consolidation": {"enabled": True}}
POLICIES: Mapping[str, tuple[str, Mapping[str, Any], str]] = {
    "Careful production": (
        "lark-prod",
        {
            "consolidation": {
                "enabled": True,
                "method": "replace_and_move",
                "zone": "America/New_York",
                "budgets": [{"nodes": "10%"}, {"nodes": "0", "schedule": "0 9 * * 1-5", "minutes": 540}],
            },
            "placement": {"spot": "prefer", "block_burstable": True},
            "exemptions": {"namespaces": ["data"]},
        },
        "Nothing is moved in working hours",
    ),
    "Eager development": (
        "lark-dev",
        {
            "consolidation": {"enabled": True, "method": "replace_and_move", "level": "aggressive"},
            "rightsizing": {"headroom_percent": 10, "minimum_monthly": "1"},
            "placement": {"spot": "force"},
        },
        "As eager as development may be",
    ),
}


def make(owner: Actor) -> int:
    """Make what is missing; returns how many policies are applied. Safe to repeat."""
    known = set(NodeTemplate.objects.visible_to(owner).values_list("name", flat=True))
    for values in TEMPLATES:
        if values["name"] not in known:
            services.save_template(actor=owner, values=values)
    applied = 0
    for name, (cluster, document, note) in POLICIES.items():
        if Policy.objects.visible_to(owner).filter(name=name).exists():
            continue
        row = services.create_policy(actor=owner, name=name, document=FIRST)
        services.save_policy(actor=owner, policy_id=row.id, document=document, note=note)
        found = Cluster.objects.visible_to(owner).filter(name=cluster).first()
        if found is None:
            continue
        try:
            applied += len(services.apply_policy(actor=owner, policy_id=row.id, cluster_ids=[found.id]))
        except CurfewError as refused:
            log.warning("demo_policy_not_applied", extra={"reason": refused.message})
        reporting.refresh(cluster_id=found.id)  # what the worker does every quarter of an hour
    return applied
