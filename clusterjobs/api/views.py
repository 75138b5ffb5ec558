"""A cluster's offer to run tasks, over HTTP."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from clusterjobs import selectors, services
from clusterjobs.models import JobPool
from core.api.views import CurfewAPIView
from core.errors import NotFound
from operations.api.shapes import moment

TAGS = ["workers"]
ANY = OpenApiTypes.OBJECT


class PoolSerializer(serializers.Serializer):
    cpu = serializers.IntegerField(required=False, help_text="Millicores for all tasks together.")
    memory = serializers.IntegerField(required=False, help_text="MiB.")
    storage = serializers.IntegerField(required=False, help_text="MiB.")
    gpus = serializers.IntegerField(required=False)
    namespace = serializers.CharField(required=False, max_length=63)
    pull_secret = serializers.CharField(required=False, max_length=253, allow_blank=True)
    read_only_root = serializers.BooleanField(required=False)
    labels = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    open = serializers.BooleanField(required=False, help_text="False: takes nothing new.")


def pool_shape(pool: JobPool) -> dict[str, Any]:
    worker = pool.worker
    return {
        "cluster": str(pool.cluster_id),
        "worker": str(worker.id),
        "name": worker.name,
        "open": worker.wanted == "open",
        "cpu": worker.cpu,
        "memory": worker.memory,
        "storage": worker.storage,
        "gpus": worker.gpus,
        "labels": worker.labels,
        "namespace": pool.namespace,
        "pull_secret": pool.pull_secret,
        "read_only_root": pool.read_only_root,
        "problem": pool.problem or None,
        "seen_at": moment(worker.seen_at),
    }


class PoolView(CurfewAPIView):
    @extend_schema(operation_id="cluster_worker_pool", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """What the cluster offers; 404 when it runs no tasks."""
        return Response(pool_shape(selectors.get_pool(actor=self.actor, cluster_id=cluster_id)))

    @extend_schema(operation_id="cluster_worker_pool_save", request=PoolSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request, cluster_id: UUID) -> Response:
        """Let the cluster run tasks, or change how: what is given."""
        asked = PoolSerializer(data=request.data)
        asked.is_valid(raise_exception=True)
        try:
            selectors.get_pool(actor=self.actor, cluster_id=cluster_id)
        except NotFound:
            services.offer(actor=self.actor, cluster_id=cluster_id, fields=asked.validated_data)
        else:
            services.change(actor=self.actor, cluster_id=cluster_id, fields=asked.validated_data)
        return Response(pool_shape(selectors.get_pool(actor=self.actor, cluster_id=cluster_id)))

    @extend_schema(operation_id="cluster_worker_pool_end", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, cluster_id: UUID) -> Response:
        """The cluster runs no more tasks; 409 while some run."""
        services.withdraw(actor=self.actor, cluster_id=cluster_id)
        return Response(status=204)
