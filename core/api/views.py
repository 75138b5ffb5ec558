"""Base of every API view."""

from __future__ import annotations

from rest_framework.views import APIView

from core.actor import Actor
from core.api.permissions import SignedIn
from core.errors import NotSignedIn


class CurfewAPIView(APIView):
    """Base of every API view: `self.actor` is who calls."""

    permission_classes = (SignedIn,)

    @property
    def actor(self) -> Actor:
        """The authenticated actor; raises NotSignedIn for an anonymous caller."""
        found = (
            self.request.auth if isinstance(self.request.auth, Actor) else getattr(self.request._request, "actor", None)
        )
        if not isinstance(found, Actor):
            raise NotSignedIn("Send a session cookie, a bearer token or an API key.")
        return found
