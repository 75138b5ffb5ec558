from django.apps import AppConfig


class DashboardConfig(AppConfig):
    name = "dashboard"

    def ready(self) -> None:
        from core import htmx, menu
        from dashboard import curfews, frame, search

        menu.register(menu.Entry(0, "Home", "dashboard:home", "home"))
        search.register_own()
        htmx.set_frame_builder(frame.build)
        frame.set_next_curfew(curfews.next_curfew)
