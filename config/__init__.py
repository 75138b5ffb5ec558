"""Settings, root URLs, ASGI and Celery; imported by nobody."""

from core.memory import collect_seldom

collect_seldom()  # what follows makes half a million objects, and all of them stay

from config.celery import app as celery_app  # noqa: E402

__all__ = ("celery_app",)
