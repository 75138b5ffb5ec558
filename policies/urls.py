"""Routes of the pages."""

from django.urls import path

from policies import policy_views, template_views

app_name = "policies"
urlpatterns = [
    path("node-templates/", template_views.templates, name="templates"),
    path("node-templates/<uuid:template_id>/", template_views.template, name="template"),
    path("policies/", policy_views.policies, name="policies"),
    path("policies/<uuid:policy_id>/", policy_views.policy, name="policy"),
]
