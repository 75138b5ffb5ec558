from django.apps import AppConfig


class CloudNodesConfig(AppConfig):
    name = "cloudnodes"
    default_auto_field = "django.db.models.BigAutoField"
