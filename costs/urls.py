"""Routes."""

from django.urls import path

from costs import views

app_name = "costs"
urlpatterns = [
    path("costs/", views.ledger_page, name="ledger"),
    path("costs/meter", views.meter, name="meter"),
    path("settings/budgets", views.budgets, name="budgets"),
]
