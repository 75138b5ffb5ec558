"""Settings, root URLs, ASGI and Celery; imported by nobody."""

from core.memory import collect_seldom

collect_seldom()  # what follows makes objects that stay

from config.celery import app as celery_app  # noqa: E402

__all__ = ("celery_app",)
