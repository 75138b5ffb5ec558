"""Clusters over HTTP. Lists are paged; money is decimal strings; what nobody knows is null."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from clusters import selectors, services
from clusters.api import serializers, shapes
from clusters.providers.groups import GroupKind
from clusters.selectors.compare import compare
from core import clock
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from operations.api.shapes import accepted, moment

ANY = OpenApiTypes.OBJECT
TAGS = ["clusters"]
Shape = TypeVar("Shape", bound=Serializer)


def read(shape: type[Shape], data: Any) -> dict[str, Any]:
    """What was sent, checked; raises ValidationError."""
    serializer = shape(data=data)
    serializer.is_valid(raise_exception=True)
    return dict(serializer.validated_data)


class ClusterListView(CurfewAPIView):
    @extend_schema(
        operation_id="clusters_list", parameters=[serializers.ClusterQuerySerializer], responses=ANY, tags=TAGS
    )
    def get(self, request: Request) -> Response:
        """Clusters, dearest first unless `ordering` says otherwise."""
        asked = read(serializers.ClusterQuerySerializer, request.query_params)
        filters = selectors.Filters(asked.get("search", ""), asked.get("pill", ""), asked.get("ordering", "-cost"))
        pages = Pages()
        found: list[Any] | None = pages.paginate_queryset(
            selectors.rows(actor=self.actor, filters=filters), request, view=self
        )
        return pages.get_paginated_response([shapes.cluster_shape(row) for row in found or []])

    @extend_schema(
        operation_id="clusters_create",
        request=serializers.ClusterWriteSerializer,
        responses={201: ANY},
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """Connect a cluster. The agent's token is in this answer and in no other."""
        made = services.create_cluster(actor=self.actor, **read(serializers.ClusterWriteSerializer, request.data))
        body = shapes.cluster_shape(made.cluster)
        if made.token:
            body |= {"agent_token": made.token, "manifest_url": services.manifest_url(made.enrolment)}
        return Response(body, status=201)


class ClusterView(CurfewAPIView):
    @extend_schema(operation_id="clusters_retrieve", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """One cluster."""
        return Response(shapes.cluster_shape(selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)))

    @extend_schema(operation_id="clusters_update", request=serializers.ClusterPatchSerializer, responses=ANY, tags=TAGS)
    def patch(self, request: Request, cluster_id: UUID) -> Response:
        """Change its name, environment, region, team, owner, tags or monthly budget."""
        given = read(serializers.ClusterPatchSerializer, request.data)
        return Response(shapes.cluster_shape(services.update_cluster(actor=self.actor, cluster_id=cluster_id, **given)))

    @extend_schema(operation_id="clusters_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, cluster_id: UUID) -> Response:
        """Disconnect it; nothing in the cluster itself is touched."""
        services.disconnect_cluster(actor=self.actor, cluster_id=cluster_id)
        return Response(status=204)


class NodesView(CurfewAPIView):
    @extend_schema(operation_id="clusters_nodes", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """Its living nodes with their price, paged."""
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        pages = Pages()
        rows = selectors.nodes_of(actor=self.actor, cluster=cluster, search=str(request.query_params.get("search", "")))
        found: list[Any] | None = pages.paginate_queryset(rows, request, view=self)
        return pages.get_paginated_response([shapes.node_shape(row) for row in found or []])


class SummaryListView(CurfewAPIView):
    """Lists that the figures hold: node groups, namespaces, workloads."""

    field = "groups"

    @extend_schema(responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """As of the last report; an empty list before the first."""
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        found = selectors.summary_of(actor=self.actor, cluster=cluster)
        rows = getattr(found, self.field) if found else []
        at = moment(found.at) if found else None
        return Response({"count": len(rows), "at": at, "currency": "USD", "results": rows})


class GroupsView(SummaryListView):
    @extend_schema(
        operation_id="clusters_group_change", request=serializers.GroupChangeSerializer, responses={202: ANY}, tags=TAGS
    )
    def post(self, request: Request, cluster_id: UUID) -> Response:
        """New limits of a node group of the cloud account or of a NodePool, and spot where that can be chosen."""
        asked = read(serializers.GroupChangeSerializer, request.data)
        key = request.headers.get("Idempotency-Key", "")[:200] or None
        of_karpenter = asked["kind"] == GroupKind.KARPENTER.value
        if of_karpenter:
            del asked["kind"]
        change = services.request_pool_change if of_karpenter else services.request_group_change
        operation = change(actor=self.actor, cluster_id=cluster_id, idempotency_key=key, **asked)
        body, headers = accepted(operation)
        return Response(body, status=202, headers=headers)


class DriftView(CurfewAPIView):
    @extend_schema(operation_id="clusters_drift", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """Nodes that are not what the cluster's node template allows; `template` is null when none is applied."""
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        found = selectors.summary_of(actor=self.actor, cluster=cluster)
        nothing: dict[str, Any] = {"template": None, "nodes": 0, "drifted": [], "unknown": []}
        return Response((found.insights.get("drift") if found else None) or nothing)


class AlertsView(CurfewAPIView):
    @extend_schema(operation_id="clusters_alerts", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """Open alerts; `?ended=1` adds the ended ones."""
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        rows = selectors.alerts_of(actor=self.actor, cluster=cluster, ended=request.query_params.get("ended") == "1")
        return Response({"count": len(rows), "results": [shapes.alert_shape(row) for row in rows]})


class HistoryView(CurfewAPIView):
    @extend_schema(
        operation_id="clusters_history", parameters=[serializers.HistoryQuerySerializer], responses=ANY, tags=TAGS
    )
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """Means over five minutes, hours or days."""
        asked = read(serializers.HistoryQuerySerializer, request.query_params)
        cluster = selectors.get_cluster(actor=self.actor, cluster_id=cluster_id)
        since = clock.now() - timedelta(hours=asked.get("hours", 24))
        rows = selectors.samples_of(actor=self.actor, cluster=cluster, span=asked.get("span", "5m"), since=since)
        return Response({"count": len(rows), "results": [shapes.sample_shape(row) for row in rows]})


class SyncView(CurfewAPIView):
    @extend_schema(operation_id="clusters_sync", request=None, responses={202: ANY}, tags=TAGS)
    def post(self, request: Request, cluster_id: UUID) -> Response:
        """Ask it to report at once."""
        row = services.sync_now(actor=self.actor, cluster_id=cluster_id)
        return Response(shapes.cluster_shape(row), status=202)


class MaintenanceView(CurfewAPIView):
    @extend_schema(
        operation_id="clusters_maintenance", request=serializers.MaintenanceSerializer, responses=ANY, tags=TAGS
    )
    def post(self, request: Request, cluster_id: UUID) -> Response:
        """Pause every automated action, or let them go on."""
        asked = read(serializers.MaintenanceSerializer, request.data)
        if asked["on"]:
            row = services.begin_maintenance(actor=self.actor, cluster_id=cluster_id, reason=asked.get("reason", ""))
        else:
            row = services.end_maintenance(actor=self.actor, cluster_id=cluster_id)
        return Response(shapes.cluster_shape(row))


class CompareView(CurfewAPIView):
    @extend_schema(operation_id="clusters_compare", request=serializers.CompareSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Two to six clusters side by side; `differs` marks the lines that are worth a look."""
        asked = read(serializers.CompareSerializer, request.data)
        found = compare(actor=self.actor, ids=asked["ids"])
        return Response(
            {
                "clusters": [{"id": str(c.id), "name": c.name} for c in found.clusters],
                "lines": [
                    {"label": line.label, "values": [str(v) for v in line.values], "differs": line.differs}
                    for line in found.lines
                ],
            }
        )


class BulkView(CurfewAPIView):
    @extend_schema(operation_id="clusters_bulk", request=serializers.BulkSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request) -> Response:
        """One action on several clusters; what cannot be done is in `skipped` and keeps nothing else from happening."""
        asked = read(serializers.BulkSerializer, request.data)
        done, skipped = services.act_on_many(actor=self.actor, **asked)
        return Response(
            {
                "done": [str(cluster.id) for cluster in done],
                "skipped": [{"id": str(i), "code": why.code, "message": why.message} for i, why in skipped],
            }
        )
