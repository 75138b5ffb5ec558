"""Routes of the pages."""

from django.urls import path

from policies import policy_views, template_views
from policies.enforcing import views as enforcing
from policies.placement.urls import urlpatterns as placement
from policies.rightsizing import views as sizes

app_name = "policies"
urlpatterns = [
    *placement,
    path("node-templates/", template_views.templates, name="templates"),
    path("node-templates/new", template_views.new, name="template-new"),
    path("node-templates/check", template_views.check, name="template-check"),
    path("node-templates/network", template_views.network, name="template-network"),
    path("node-templates/import", template_views.take_in, name="template-import"),
    path("node-templates/<uuid:template_id>/", template_views.template, name="template"),
    path("node-templates/<uuid:template_id>/default", template_views.make_default, name="template-default"),
    path("node-templates/<uuid:template_id>/clone", template_views.clone, name="template-clone"),
    path("node-templates/<uuid:template_id>/delete", template_views.delete, name="template-delete"),
    path("node-templates/<uuid:template_id>/karpenter.yaml", template_views.karpenter, name="template-karpenter"),
    path("policies/", policy_views.policies, name="policies"),
    path("policies/new", policy_views.new, name="policy-new"),
    path("policies/clusters/<uuid:cluster_id>/nodes/", enforcing.nodes, name="nodes"),
    path("policies/clusters/<uuid:cluster_id>/rights", enforcing.rights, name="rights"),
    path("policies/<uuid:policy_id>/", policy_views.policy, name="policy"),
    path("policies/<uuid:policy_id>/impact", policy_views.impact, name="policy-impact"),
    path("policies/<uuid:policy_id>/clusters", policy_views.clusters, name="policy-clusters"),
    path("policies/<uuid:policy_id>/rename", policy_views.rename, name="policy-rename"),
    path("policies/<uuid:policy_id>/delete", policy_views.delete, name="policy-delete"),
    path("policies/<uuid:policy_id>/versions/<int:number>/", policy_views.version, name="policy-version"),
    path("policies/rightsizing/", sizes.clusters, name="rightsizing-clusters"),
    path("policies/rightsizing/<uuid:cluster_id>/", sizes.report, name="rightsizing"),
    path("policies/rightsizing/<uuid:cluster_id>/requests.yaml", sizes.patches, name="rightsizing-patches"),
    path("policies/rightsizing/<uuid:cluster_id>/apply", sizes.apply, name="rightsizing-apply"),
    path(
        "policies/rightsizing/<uuid:cluster_id>/changes/<uuid:change_id>/take-back",
        sizes.take_back,
        name="rightsizing-take-back",
    ),
]
