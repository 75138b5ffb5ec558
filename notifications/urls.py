"""Routes."""

from django.urls import path

from notifications import views

app_name = "notifications"
urlpatterns = [
    path("settings/notifications", views.settings, name="settings"),
    path("settings/notifications/channels", views.channel_add, name="channel-add"),
    path("settings/notifications/channels/<uuid:channel_id>", views.channel_edit, name="channel-edit"),
    path("settings/notifications/channels/<uuid:channel_id>/<slug:what>", views.channel_change, name="channel-change"),
    path("settings/notifications/mine", views.mine, name="mine"),
    path("settings/notifications/browsers", views.browser_add, name="browser-add"),
    path("settings/notifications/browsers/<uuid:browser_id>/<slug:what>", views.browser_change, name="browser-change"),
    path("settings/notifications/preferences", views.preferences, name="preferences"),
    path("settings/notifications/messages", views.messages_page, name="messages"),
    path("settings/notifications/messages/<uuid:delivery_id>/retry", views.message_retry, name="message-retry"),
    path("settings/notifications/stop/<str:token>", views.stop, name="stop"),
]
