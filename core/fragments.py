"""What one viewer's request made serves the next viewer's as well, as long as nothing has changed.

Two hundred people look at one grid; one node changes; all of them ask again at once. What they get is the same for all
who have the same rights in the same organization, so it is made once. The key holds the organization, the exact set of
permissions, the versions of the topics that the content is made of (`core.live`), and whatever the view adds; hence
nothing of another organization or of a wider role can come out. Nothing personal may be put in: the anti-forgery token
is filled in for each viewer. What no topic announces (the time of the last look, "3 minutes ago") may be as old as
`KEEP_SECONDS`.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar, cast

from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template.response import TemplateResponse
from django.utils.cache import patch_vary_headers

from core import live
from core.actor import Actor

KEEP_SECONDS = 2.0
FORGET_SECONDS = 10.0
MOST_ENTRIES = 2000
T = TypeVar("T")


@dataclass(slots=True)
class _Entry:
    lock: threading.Lock = field(default_factory=threading.Lock)
    made_at: float = float("-inf")
    asked_at: float = 0.0
    value: Any = None


class Shelf:
    """A small memory of this process. Who asks for what another is making waits for it instead of making it again."""

    def __init__(self, most: int = MOST_ENTRIES) -> None:
        self._most = most
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value under a key, made when there is none or it is too old. An exception of `make` is kept for nobody."""
        entry = self._entry(key)
        with entry.lock:
            if time.monotonic() - entry.made_at > KEEP_SECONDS:
                entry.value = make()
                entry.made_at = time.monotonic()
            return cast(T, entry.value)

    def _entry(self, key: Hashable) -> _Entry:
        """The entry of a key, the last in the row; those that nobody has asked for in a while go."""
        now = time.monotonic()
        with self._lock:
            entry = self._entries.pop(key, None) or _Entry()
            entry.asked_at = now
            self._entries[key] = entry
            while len(self._entries) > self._most or now - next(iter(self._entries.values())).asked_at > FORGET_SECONDS:
                self._entries.popitem(last=False)
        return entry

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_shelf = Shelf()
clear = _shelf.clear


@dataclass(frozen=True, slots=True)
class Fragment:
    """Rendered HTML whose anti-forgery tokens are still a placeholder."""

    html: str
    placeholder: str
    tag: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """What may be shared with whom: made once a request, before anything is read."""

    key: tuple[Hashable, ...]

    def rendered(
        self, request: HttpRequest, template: str, context: Callable[[], dict[str, Any]], *name: Hashable
    ) -> Fragment:
        """A template rendered with a context that is made only when it is needed. The request and the person are hidden
        from the template, so that nothing personal can get in."""

        def make() -> Fragment:
            placeholder = f"csrf-{secrets.token_hex(16)}"  # nobody can guess it and plant it in a name
            shown = {
                "request": None,
                "user": None,
                "perms": None,
                "messages": (),
                **context(),
                "csrf_token": placeholder,
            }
            html = TemplateResponse(request, template, shown).rendered_content
            digest = hashlib.blake2b(html.replace(placeholder, "").encode(), digest_size=12)
            return Fragment(html, placeholder, digest.hexdigest())

        return self.value(make, template, *name)

    def value(self, make: Callable[[], T], *name: Hashable) -> T:
        """Something made of the topics' data and of `name` alone. It must not be changed afterwards."""
        return _shelf.get((*self.key, *name), make)


def sharing(actor: Actor, topics: Sequence[str]) -> Sharing:
    """Sharing among those of the actor's organization who have the same permissions, until one of the topics changes.

    The versions are read now, before the data: a change in between makes the entry newer than its key, never older.
    """
    assert actor.org_id is not None
    return Sharing((str(actor.org_id), actor.permissions, live.versions(actor.org_id, topics)))


@lru_cache(maxsize=4096)
def _masked(secret: str, minute: int) -> str:
    """The secret as Django masks it: an answer may be compressed on its way, and then the bare secret could be guessed."""
    del minute  # another mask each minute
    request = HttpRequest()
    request.META["CSRF_COOKIE"] = secret
    return get_token(request)


def _token(request: HttpRequest) -> str:
    """The viewer's anti-forgery token. Masking draws 32 random letters, each of which gives up the interpreter's lock:
    too slow for two hundred viewers at once, hence one mask a viewer and minute."""
    secret = request.META.get("CSRF_COOKIE")
    return _masked(secret, int(time.time() // 60)) if secret else get_token(request)


def answer(request: HttpRequest, *parts: Fragment) -> HttpResponse:
    """The parts with the viewer's own tokens; 304 without a body when the viewer says that it has exactly this."""
    token = _token(request)
    mine = hashlib.blake2b(request.META["CSRF_COOKIE"].encode(), digest_size=6).hexdigest()
    tags = hashlib.blake2b("".join(part.tag for part in parts).encode(), digest_size=12).hexdigest()
    etag = f'"{tags}.{mine}"'
    if request.headers.get("If-None-Match") == etag:
        response = HttpResponse(status=304)
    else:
        response = HttpResponse("".join(part.html.replace(part.placeholder, token) for part in parts))
    response["ETag"] = etag
    patch_vary_headers(response, ["HX-Request"])
    return response
