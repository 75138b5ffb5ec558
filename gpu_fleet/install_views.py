"""The agent as one file that Python runs as it is; public, as it holds no secret."""

from __future__ import annotations

import io
import zipfile
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_GET

PARTS = ("__init__.py", "__main__.py", "transport.py", "machine")
ONE_DATE = (2024, 1, 1, 0, 0, 0)


@lru_cache(maxsize=1)
def packed_agent() -> bytes:
    """A zip of the agent's sources, the same bytes for the same sources."""
    root = Path(settings.BASE_DIR) / "agent"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(root.rglob("*.py")):
            parts = file.relative_to(root).parts
            if parts[0] in PARTS:
                made.writestr(zipfile.ZipInfo("/".join(("agent", *parts)), ONE_DATE), file.read_bytes())
    return buffer.getvalue()


@require_GET
def agent(request: HttpRequest) -> HttpResponse:
    """Download the agent of machines."""
    response = HttpResponse(packed_agent(), content_type="application/octet-stream")
    response["Content-Disposition"] = 'attachment; filename="machine.pyz"'
    return response
