"""Routes."""

from django.urls import path

from costs import budget_views, views

app_name = "costs"
urlpatterns = [
    path("costs/", views.ledger_page, name="ledger"),
    path("costs/export.csv", views.export, name="export"),
    path("costs/meter", views.meter, name="meter"),
    path("costs/prices", budget_views.prices, name="prices"),
    path("settings/budgets", budget_views.budgets, name="budgets"),
    path("settings/budgets/<uuid:budget_id>/remove", budget_views.remove, name="budget-remove"),
    path("settings/budgets/<uuid:budget_id>/lift", budget_views.lift, name="budget-lift"),
]
