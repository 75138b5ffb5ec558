"""The HTTP interface of placement."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.views import CurfewAPIView
from policies.placement import selectors, services
from policies.placement.models import Way

TAGS = ["policies"]


class WaySerializer(serializers.Serializer[Any]):
    """How rules reach pods; what is left out stays as it is."""

    way = serializers.ChoiceField(choices=Way.choices, required=False)
    fallback_minutes = serializers.IntegerField(min_value=1, max_value=services.LONGEST_FALLBACK, required=False)


def shape(found: selectors.PlacementView) -> dict[str, Any]:
    """A cluster's placement as JSON."""
    return {
        "cluster": str(found.cluster.id),
        "way": found.way,
        "fallback_minutes": found.fallback_minutes,
        "policy": found.policy or None,
        "mode": found.mode or None,
        "asked": list(found.asked),
        "used": found.used or None,
        "since": found.since.isoformat() if found.since else None,
        "notes": list(found.notes),
        "webhook": found.webhook or None,
        "webhook_pending": found.pending,
        "patched": [
            {
                "kind": row.kind,
                "namespace": row.namespace,
                "name": row.name,
                "done": list(row.done),
                "standing": row.standing,
                "words": row.words,
                "softened": row.softened,
            }
            for row in found.patched
        ],
    }


class PlacementView(CurfewAPIView):
    @extend_schema(operation_id="cluster_placement", responses=OpenApiTypes.OBJECT, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """How the placement rules of a cluster's policy are carried out there."""
        return Response(shape(selectors.placement_of(actor=self.actor, cluster_id=cluster_id)))

    @extend_schema(
        operation_id="cluster_placement_choose", request=WaySerializer, responses=OpenApiTypes.OBJECT, tags=TAGS
    )
    def patch(self, request: Request, cluster_id: UUID) -> Response:
        """Choose webhook, patching or nothing, and after how many minutes of waiting a hard rule becomes a wish."""
        given = WaySerializer(data=request.data)
        given.is_valid(raise_exception=True)
        now = selectors.placement_of(actor=self.actor, cluster_id=cluster_id)
        services.choose(
            actor=self.actor,
            cluster_id=cluster_id,
            way=given.validated_data.get("way", now.way),
            fallback_minutes=given.validated_data.get("fallback_minutes", now.fallback_minutes),
        )
        return Response(shape(selectors.placement_of(actor=self.actor, cluster_id=cluster_id)))


class UnmanagedView(CurfewAPIView):
    @extend_schema(operation_id="cluster_unmanaged", responses=OpenApiTypes.OBJECT, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """What policies leave alone in a cluster: its cost counts, its savings are 0."""
        found = selectors.unmanaged(actor=self.actor, cluster_id=cluster_id)
        return Response(
            {
                "count": found.count,
                "monthly_cost": f"{found.monthly:.2f}",
                "unknown_cost": found.unknown,
                "potential_savings": "0.00",
                "results": [
                    {
                        "namespace": row.namespace,
                        "kind": row.kind,
                        "name": row.name,
                        "state": "unmanaged",
                        "reason": row.reason,
                        "monthly_cost": None if row.monthly is None else f"{row.monthly:.2f}",
                        "potential_savings": "0.00",
                    }
                    for row in found.rows
                ],
            }
        )
