"""A real server with the sandbox cloud beside it, a real Docker engine when one can run, and a real Chromium."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.aws import SandboxAws
from tests.live.server import Embedded

ROOT = Path(__file__).resolve().parents[2]
SHOTS = Path(os.environ.get("CURFEW_SHOTS", str(ROOT / "tests" / "e2e" / "screens")))
PASSWORD = "a long walk at dusk"


@pytest.fixture(scope="session")
def server() -> Iterator[Embedded]:
    with (
        SandboxAws(seed=True, transition_seconds=1.5) as sandbox,
        Embedded(CURFEW_SANDBOX_AWS_ENDPOINT=sandbox.url, CURFEW_OUTBOUND_NETWORKS="127.0.0.1/32") as curfew,
    ):
        yield curfew


@pytest.fixture
def open_browser(chromium: Any, server: Embedded) -> Iterator[Callable[..., Any]]:
    """`open_browser(width=390, theme="dark")`: a page whose console must stay clean to the end."""
    contexts: list[Any] = []
    said: list[str] = []

    def make(*, width: int = 1440, theme: str = "light", scripts: bool = True) -> Any:
        context = chromium.new_context(
            base_url=server.base_url,
            viewport={"width": width, "height": 900},
            color_scheme=theme,
            java_script_enabled=scripts,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda m: said.append(m.text) if _matters(m) else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        return page

    yield make
    for context in contexts:
        context.close()
    assert said == []


def _matters(message: Any) -> bool:
    """Errors and warnings, but for a refused form and a socket that was still connecting when the page was left."""
    harmless = ("closed before the connection is established", "a status of 422")
    return message.type in ("error", "warning") and not any(words in message.text for words in harmless)


def sign_up(page: Any, organization: str, email: str) -> None:
    """Through the portal, as a newcomer does."""
    page.goto("/signup")
    page.fill("[name=organization]", organization)
    page.fill("[name=email]", email)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url("**/welcome")


def log_in(page: Any, email: str) -> None:
    page.goto("/login")
    page.fill("[name=login]", email)
    page.fill("[name=password]", PASSWORD)
    page.click("main button[type=submit]")
    page.wait_for_url(lambda url: "/login" not in url)


def shoot(page: Any, name: str) -> None:
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=str(SHOTS / f"{name}.png"), full_page=True)
