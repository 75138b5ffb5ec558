"""API routes, relative: mounted at /api/ and /api/v1/. Each answers with and without a slash at the end."""

from __future__ import annotations

from django.urls import URLPattern, path
from rest_framework.views import APIView

from policies.api import views
from policies.enforcing import views as enforcing
from policies.placement import api as placement
from policies.rightsizing import api as sizes


def both(route: str, view: type[APIView], name: str) -> list[URLPattern]:
    """The route, and the same with a slash; only the first is in the schema."""
    return [path(route, view.as_view(), name=name), path(f"{route}/", view.as_view(schema=None))]


TEMPLATE = "node-templates/<uuid:template_id>"
POLICY = "policies/<uuid:policy_id>"
CLUSTER = "clusters/<uuid:cluster_id>/policy"
SIZES = "clusters/<uuid:cluster_id>"
urlpatterns: list[URLPattern] = [
    *both("node-templates", views.TemplatesView, "node-templates"),
    *both("node-templates/check", views.TemplateCheckView, "node-template-check"),
    *both("node-templates/import", views.TemplateImportView, "node-template-import"),
    *both(TEMPLATE, views.TemplateView, "node-template"),
    *both(f"{TEMPLATE}/clone", views.TemplateCloneView, "node-template-clone"),
    *both(f"{TEMPLATE}/set-default", views.TemplateDefaultView, "node-template-set-default"),
    *both(f"{TEMPLATE}/karpenter", views.TemplateKarpenterView, "node-template-karpenter"),
    *both("policies", views.PoliciesView, "policies"),
    *both(POLICY, views.PolicyView, "policy"),
    *both(f"{POLICY}/apply", views.PolicyApplyView, "policy-apply"),
    *both(f"{POLICY}/versions", views.VersionsView, "policy-versions"),
    *both(f"{POLICY}/versions/<int:number>/restore", views.RestoreView, "policy-restore"),
    *both(CLUSTER, views.ClusterPolicyView, "cluster-policy"),
    *both(f"{CLUSTER}/nodes", enforcing.NodesView, "cluster-policy-nodes"),
    *both(f"{CLUSTER}/impact", views.ImpactView, "cluster-policy-impact"),
    *both(f"{SIZES}/recommendations", sizes.RecommendationsView, "cluster-recommendations"),
    *both(
        f"{SIZES}/recommendations/<uuid:recommendation_id>/apply",
        sizes.ApplyRecommendationView,
        "cluster-recommendation-apply",
    ),
    *both(f"{SIZES}/size-changes", sizes.ChangesView, "cluster-size-changes"),
    *both(f"{SIZES}/size-changes/<uuid:change_id>/rollback", sizes.RollbackView, "cluster-size-rollback"),
    *both("clusters/<uuid:cluster_id>/placement", placement.PlacementView, "cluster-placement"),
    *both("clusters/<uuid:cluster_id>/unmanaged", placement.UnmanagedView, "cluster-unmanaged"),
]
