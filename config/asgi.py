"""ASGI entry point: HTTP by Django, WebSockets by Channels, worker and beat by lifespan in the embedded mode."""

from __future__ import annotations

import asyncio
import os
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from config import web
from core.processes import end_with_parent

end_with_parent()
django_application = web.application()

from channels.layers import get_channel_layer
from channels.routing import ProtocolTypeRouter, URLRouter
from channels.security.websocket import OriginValidator
from channels.sessions import SessionMiddlewareStack
from django.conf import settings

from config.routing import websocket_urlpatterns
from core.memory import settle_memory
from gpu_fleet.providers import passing, rclone

_embedded: Any = None


async def lifespan(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Start and stop what lives inside this process."""
    global _embedded
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if settings.CURFEW_EMBEDDED and os.environ.get("CURFEW_NO_WORKER") != "1":
                from config.embedded import Embedded
                from operations import runner

                get_channel_layer().bind()
                await asyncio.to_thread(runner.release_dead_process)
                _embedded = Embedded()
                await asyncio.to_thread(_embedded.start)
            settle_memory()
            await send({"type": "lifespan.startup.complete"})
        else:
            if _embedded is not None:
                await asyncio.to_thread(_embedded.stop)
            await passing.close()
            await asyncio.to_thread(rclone.end_all)
            await send({"type": "lifespan.shutdown.complete"})
            return


class OurOrigins(OriginValidator):
    """Pages of ours alone; an origin that is no address is refused like any other."""

    def valid_origin(self, parsed_origin: Any) -> bool:
        try:
            return bool(super().valid_origin(parsed_origin))
        except ValueError:  # a port that is no number
            return False


_origins = [*settings.CSRF_TRUSTED_ORIGINS, *settings.ALLOWED_HOSTS]
application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": OurOrigins(SessionMiddlewareStack(URLRouter(websocket_urlpatterns)), _origins),
        "lifespan": lifespan,
    }
)
