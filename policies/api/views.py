"""Node templates and policies over HTTP. Nothing here acts on a cluster; documents are those of `policies.document`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer

from clusters import selectors as clusters
from core.api.pagination import Pages
from core.api.views import CurfewAPIView
from core.errors import InvalidInput, NotFound
from policies import exchange, selectors, services
from policies.api import serializers, shapes
from policies.document import Document, InvalidDocument
from policies.enums import PERMISSION_VIEW

ANY = OpenApiTypes.OBJECT
TAGS = ["policies"]
SEARCH = OpenApiParameter("search", str, description="Part of the name.")


def read(shape: type[Serializer], data: Any) -> dict[str, Any]:
    """What was sent, checked; raises ValidationError."""
    asked = shape(data=data)
    asked.is_valid(raise_exception=True)
    return dict(asked.validated_data)


class PolicyAPIView(CurfewAPIView):
    """Base: everybody here may at least see policies."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.actor.require(PERMISSION_VIEW, "see policies")

    def paged(self, request: Request, rows: list[Any]) -> tuple[Pages, list[Any]]:
        pages = Pages()
        found: list[Any] | None = pages.paginate_queryset(rows, request, view=self)
        return pages, found or []


class TemplatesView(PolicyAPIView):
    @extend_schema(operation_id="node_templates", parameters=[SEARCH], responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Node templates by name, the default one first, each with what uses it."""
        search = request.query_params.get("search", "")[:120]
        pages, rows = self.paged(request, selectors.list_templates(actor=self.actor, search=search))
        uses = selectors.uses(actor=self.actor, templates=rows) if rows else {}
        return pages.get_paginated_response([shapes.template_shape(row, uses[row.id]) for row in rows])

    @extend_schema(
        operation_id="node_template_create",
        request=serializers.TemplateWriteSerializer,
        responses={201: ANY},
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """Create a template. The first one is the default."""
        values = read(serializers.TemplateWriteSerializer, request.data)
        default = values.pop("is_default", None)
        row = services.save_template(actor=self.actor, values=values, make_default=default)
        return Response(shapes.template_shape(row), status=201)


class TemplateView(PolicyAPIView):
    @extend_schema(operation_id="node_template", responses=ANY, tags=TAGS)
    def get(self, request: Request, template_id: UUID) -> Response:
        """One template with what uses it."""
        row = selectors.get_template(actor=self.actor, template_id=template_id)
        return Response(shapes.template_shape(row, selectors.uses_of(actor=self.actor, template=row)))

    @extend_schema(
        operation_id="node_template_update", request=serializers.TemplatePatchSerializer, responses=ANY, tags=TAGS
    )
    def patch(self, request: Request, template_id: UUID) -> Response:
        """Change the fields that are sent. `is_default` can be given, never taken away: make another one the default."""
        values = read(serializers.TemplatePatchSerializer, request.data)
        default = values.pop("is_default", None)
        row = services.save_template(
            actor=self.actor, values=values, template_id=template_id, make_default=default or None
        )
        return Response(shapes.template_shape(row))

    @extend_schema(operation_id="node_template_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, template_id: UUID) -> Response:
        """Delete a template that nothing uses; 409 names what does."""
        services.delete_template(actor=self.actor, template_id=template_id)
        return Response(status=204)


class TemplateCloneView(PolicyAPIView):
    @extend_schema(operation_id="node_template_clone", request=None, responses={201: ANY}, tags=TAGS)
    def post(self, request: Request, template_id: UUID) -> Response:
        """A copy under the next free name."""
        row = services.clone_template(actor=self.actor, template_id=template_id)
        return Response(shapes.template_shape(row), status=201)


class TemplateDefaultView(PolicyAPIView):
    @extend_schema(operation_id="node_template_set_default", request=None, responses=ANY, tags=TAGS)
    def post(self, request: Request, template_id: UUID) -> Response:
        """Make it the organization's default."""
        return Response(shapes.template_shape(services.set_default(actor=self.actor, template_id=template_id)))


class TemplateCheckView(PolicyAPIView):
    @extend_schema(operation_id="node_template_check", request=serializers.CheckSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request) -> Response:
        """Conflicts, what could be launched, and the average price of a template that is being written."""
        values = read(serializers.CheckSerializer, request.data)
        own = values.pop("id", None)
        if own is not None:
            selectors.get_template(actor=self.actor, template_id=own)
        name = values.get("name", "").strip()
        taken = bool(name) and selectors.name_taken(actor=self.actor, name=name, but=own)
        verdict = selectors.judge(services.draft(values), values.get("region", ""))
        return Response(shapes.verdict_shape(verdict, name_taken=taken))


class TemplateKarpenterView(PolicyAPIView):
    @extend_schema(
        operation_id="node_template_karpenter",
        parameters=[OpenApiParameter("cluster", str, description="Fills the discovery tag and the node role.")],
        responses={(200, "application/yaml"): OpenApiTypes.STR},
        tags=TAGS,
    )
    def get(self, request: Request, template_id: UUID) -> HttpResponse:
        """The template as Karpenter's EC2NodeClass and NodePool, version 1."""
        row = selectors.get_template(actor=self.actor, template_id=template_id)
        cluster = request.query_params.get("cluster", "").strip()[:100] or "CLUSTER_NAME"
        text = exchange.to_karpenter(row.blueprint(), cluster=cluster).text()
        return HttpResponse(text, content_type="application/yaml; charset=utf-8")


class TemplateImportView(PolicyAPIView):
    @extend_schema(
        operation_id="node_template_import",
        request=serializers.ManifestSerializer,
        responses={201: ANY},
        tags=TAGS,
    )
    def post(self, request: Request) -> Response:
        """A template of each NodePool in the text, with what was not taken over. All of them or none."""
        text = read(serializers.ManifestSerializer, request.data)["manifest"]
        done = services.import_templates(actor=self.actor, text=text)
        rows = [{**shapes.template_shape(row), "not_taken_over": list(notes)} for row, notes in done]
        return Response({"templates": rows}, status=201)


class PoliciesView(PolicyAPIView):
    @extend_schema(operation_id="policies", parameters=[SEARCH], responses=ANY, tags=TAGS)
    def get(self, request: Request) -> Response:
        """Policies by name, with how many clusters follow each."""
        search = request.query_params.get("search", "")[:120]
        pages, rows = self.paged(request, selectors.list_policy_rows(actor=self.actor, search=search))
        return pages.get_paginated_response(
            [{**shapes.policy_shape(row.policy), "clusters": row.clusters, "enforced": row.enforced} for row in rows]
        )

    @extend_schema(
        operation_id="policy_create", request=serializers.PolicyWriteSerializer, responses={201: ANY}, tags=TAGS
    )
    def post(self, request: Request) -> Response:
        """Create a policy."""
        row = services.create_policy(actor=self.actor, **read(serializers.PolicyWriteSerializer, request.data))
        return Response(shapes.policy_shape(row), status=201)


class PolicyView(PolicyAPIView):
    @extend_schema(operation_id="policy", responses=ANY, tags=TAGS)
    def get(self, request: Request, policy_id: UUID) -> Response:
        """One policy with its document and the clusters that follow it."""
        row = selectors.get_policy(actor=self.actor, policy_id=policy_id)
        links = selectors.followers(actor=self.actor, policy_id=policy_id)
        follow = [{"id": str(one.cluster_id), "name": one.cluster.name, "mode": one.mode} for one in links]
        return Response({**shapes.policy_shape(row), "clusters": follow})

    @extend_schema(operation_id="policy_save", request=serializers.PolicyPutSerializer, responses=ANY, tags=TAGS)
    def put(self, request: Request, policy_id: UUID) -> Response:
        """Save a new version; the same document again saves nothing."""
        asked = read(serializers.PolicyPutSerializer, request.data)
        expected = asked.pop("version", None)
        row = services.save_policy(actor=self.actor, policy_id=policy_id, expected=expected, **asked)
        return Response(shapes.policy_shape(row))

    @extend_schema(operation_id="policy_rename", request=serializers.PolicyRenameSerializer, responses=ANY, tags=TAGS)
    def patch(self, request: Request, policy_id: UUID) -> Response:
        """Give it another name."""
        name = read(serializers.PolicyRenameSerializer, request.data)["name"]
        return Response(shapes.policy_shape(services.rename_policy(actor=self.actor, policy_id=policy_id, name=name)))

    @extend_schema(operation_id="policy_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, policy_id: UUID) -> Response:
        """Delete a policy that no cluster follows; 409 names those that do."""
        services.delete_policy(actor=self.actor, policy_id=policy_id)
        return Response(status=204)


class PolicyApplyView(PolicyAPIView):
    @extend_schema(operation_id="policy_apply", request=serializers.PolicyApplySerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request, policy_id: UUID) -> Response:
        """Let clusters follow it: all of them or none."""
        asked = read(serializers.PolicyApplySerializer, request.data)
        done = services.apply_policy(
            actor=self.actor, policy_id=policy_id, cluster_ids=asked["clusters"], mode=asked.get("mode")
        )
        return Response({"clusters": [{"id": str(one.cluster_id), "mode": one.mode} for one in done]})


class VersionsView(PolicyAPIView):
    @extend_schema(operation_id="policy_versions", responses=ANY, tags=TAGS)
    def get(self, request: Request, policy_id: UUID) -> Response:
        """The newest hundred versions, the newest first."""
        selectors.get_policy(actor=self.actor, policy_id=policy_id)
        pages, rows = self.paged(request, selectors.list_versions(actor=self.actor, policy_id=policy_id))
        return pages.get_paginated_response([shapes.version_shape(row) for row in rows])


class RestoreView(PolicyAPIView):
    @extend_schema(operation_id="policy_restore", request=None, responses=ANY, tags=TAGS)
    def post(self, request: Request, policy_id: UUID, number: int) -> Response:
        """Save an older version as the newest."""
        row = services.restore_version(actor=self.actor, policy_id=policy_id, number=number)
        return Response(shapes.policy_shape(row))


class ClusterPolicyView(PolicyAPIView):
    @extend_schema(operation_id="cluster_policy", responses=ANY, tags=TAGS)
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """What the cluster follows; 404 when it follows none."""
        clusters.get_cluster(actor=self.actor, cluster_id=cluster_id)
        row = selectors.assignment_of(actor=self.actor, cluster_id=cluster_id)
        if row is None:
            raise NotFound("No policy is applied to this cluster.")
        return Response(shapes.assignment_shape(row))

    @extend_schema(
        operation_id="cluster_policy_save", request=serializers.ClusterPolicySerializer, responses=ANY, tags=TAGS
    )
    def put(self, request: Request, cluster_id: UUID) -> Response:
        """Follow another policy, change the mode, or the document of the policy that it follows."""
        asked = read(serializers.ClusterPolicySerializer, request.data)
        row = services.put_cluster_policy(
            actor=self.actor,
            cluster_id=cluster_id,
            policy_id=asked.get("policy"),
            mode=asked.get("mode"),
            document=asked.get("document"),
        )
        return Response(shapes.assignment_shape(row))

    @extend_schema(operation_id="cluster_policy_delete", responses={204: None}, tags=TAGS)
    def delete(self, request: Request, cluster_id: UUID) -> Response:
        """Take the cluster off its policy."""
        clusters.get_cluster(actor=self.actor, cluster_id=cluster_id)
        services.take_off(actor=self.actor, cluster_ids=[cluster_id])
        return Response(status=204)


class ImpactView(PolicyAPIView):
    @extend_schema(operation_id="cluster_policy_impact", request=serializers.ImpactSerializer, responses=ANY, tags=TAGS)
    def post(self, request: Request, cluster_id: UUID) -> Response:
        """What a document would do to this cluster, card by card, from its last report. Nothing is stored."""
        clusters.get_cluster(actor=self.actor, cluster_id=cluster_id)
        document = read(serializers.ImpactSerializer, request.data).get("document")
        if document is None:
            row = selectors.assignment_of(actor=self.actor, cluster_id=cluster_id)
            document = row.policy.document if row else {}
        try:
            parsed = Document.from_json(document)
        except InvalidDocument as wrong:
            raise InvalidInput(errors=wrong.errors) from None
        found, looked_at = selectors.estimate(actor=self.actor, document=parsed, cluster_ids=[cluster_id])
        return Response(shapes.impact_shape(found, looked_at))
