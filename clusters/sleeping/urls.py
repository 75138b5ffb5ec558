"""Routes of a cluster's sleep, under the namespace of clusters."""

from django.urls import path

from clusters.sleeping import views

urlpatterns = [
    path("clusters/<uuid:cluster_id>/sleep", views.page, name="sleep"),
    path("clusters/<uuid:cluster_id>/sleep/look", views.look_now, name="sleep-look"),
    path("clusters/<uuid:cluster_id>/sleep/now", views.sleep_now, name="sleep-now"),
    path("clusters/<uuid:cluster_id>/sleep/wake", views.wake_now, name="sleep-wake"),
    path("clusters/<uuid:cluster_id>/sleep/rules", views.rules, name="sleep-rules"),
    path("clusters/<uuid:cluster_id>/sleep/restore-file", views.restore_file, name="sleep-restore-file"),
    path("clusters/<uuid:cluster_id>/sleep/hand-over", views.hand_over, name="sleep-hand-over"),
]
