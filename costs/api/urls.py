"""API routes."""

from django.urls import path

from costs.api import views

urlpatterns = [
    path("costs/summary", views.SummaryView.as_view(), name="costs-summary"),
    path("costs/intervals", views.IntervalsView.as_view(), name="costs-intervals"),
    path("costs/budget", views.BudgetView.as_view(), name="costs-budget"),
]
