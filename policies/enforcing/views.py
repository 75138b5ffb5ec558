"""What a policy does to a cluster's nodes: a page, and the fragment that the policy's page shows."""

from __future__ import annotations

from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.access import signed_in
from core.actor import Actor
from core.htmx import render_page
from policies.api.views import PolicyAPIView
from policies.enforcing import selectors
from policies.enums import PERMISSION_MANAGE, PERMISSION_VIEW


@signed_in
@require_GET
def nodes(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """What would be done, what is done and what was done, with dollars."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    actor.require(PERMISSION_VIEW, "see policies")
    view = selectors.nodes_view(actor=actor, cluster_id=cluster_id)
    context = {"page_title": f"Nodes of {view.cluster.name}", "view": view}
    return render_page(request, "policies/nodes.html", context, fragment="nodes")


@signed_in
@require_GET
def rights(request: HttpRequest, cluster_id: UUID) -> HttpResponse:
    """What the cluster's account lacks for its policy to act, as a fragment; empty when nothing is."""
    actor: Actor = request.actor  # type: ignore[attr-defined]
    actor.require(PERMISSION_MANAGE, "change what a policy may do")
    view = selectors.rights_view(actor=actor, cluster_id=cluster_id)
    return render_page(request, "policies/partials/_rights.html", {"rights": view})


class NodesView(PolicyAPIView):
    @extend_schema(operation_id="cluster_policy_nodes", responses=OpenApiTypes.OBJECT, tags=["policies"])
    def get(self, request: Request, cluster_id: UUID) -> Response:
        """What the policy would do, does and did to the cluster's nodes, what it must not touch, and what it wrote."""
        return Response(selectors.nodes_shape(selectors.nodes_view(actor=self.actor, cluster_id=cluster_id)))
