"""The front-end site in a process of its own, and a real Chromium that watches for policy violations."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


class Site:
    """Address of the running site, and orders to it."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def order(self, **orders: object) -> dict[str, Any]:
        """Tell the site what to do; answers its state."""
        query = "&".join(f"{key}={value}" for key, value in orders.items())
        with urllib.request.urlopen(f"{self.url}/control?{query}", timeout=5) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": ""}
    process = subprocess.Popen([sys.executable, "-m", "tests.frontend.site", str(port)], cwd=ROOT, env=environment)
    running = Site(port)
    try:
        for _ in range(100):
            try:
                running.order()
                break
            except (urllib.error.URLError, ConnectionError):
                if process.poll() is not None:
                    pytest.fail("the front-end site ended at once")
                time.sleep(0.1)
        else:
            pytest.fail("the front-end site did not start")
        yield running
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture
def open_page(chromium: Any, site: Site) -> Iterator[Callable[..., Any]]:
    """`open_page("/", width=390, theme="dark")`: a page; at the end there must have been no policy violation and no script error."""
    site.order(waking=0, socket="open", fail=0)
    contexts: list[Any] = []
    wrong: list[str] = []

    def make(
        path: str = "/", *, width: int = 1440, height: int = 900, theme: str = "light", scripts: bool = True
    ) -> Any:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, java_script_enabled=scripts, timezone_id="Europe/Lisbon"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("pageerror", lambda error: wrong.append(f"script error: {error}"))
        page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
        page.goto(f"{site.url}{path}{'&' if '?' in path else '?'}theme={theme}")
        if scripts:
            page.wait_for_load_state("load")
        return page

    yield make
    for context in contexts:
        context.close()
    site.order(waking=0, socket="open", fail=0)
    assert wrong == []
