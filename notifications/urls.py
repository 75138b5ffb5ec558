"""Routes."""

from django.urls import path

from notifications import views

app_name = "notifications"
urlpatterns = [
    path("settings/notifications", views.settings, name="settings"),
    path("settings/notifications/channels", views.channel_add, name="channel-add"),
    path("settings/notifications/channels/<uuid:channel_id>/<slug:what>", views.channel_change, name="channel-change"),
    path("settings/notifications/preferences", views.preferences, name="preferences"),
    path("settings/notifications/messages", views.messages_page, name="messages"),
    path("settings/notifications/messages/<uuid:delivery_id>/retry", views.message_retry, name="message-retry"),
    path("settings/notifications/stop/<str:token>", views.stop, name="stop"),
]
