"""Tasks and workers in a real browser: submit, watch the log grow, search it, everything accessible."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import PASSWORD, log_in, shoot, sign_up
from tests.frontend.test_browser import axe, until
from tests.live.server import Embedded

pytestmark = pytest.mark.e2e
EMAIL = "tove@tasks.test"


class FakeAgent:
    """A worker that claims, prints and ends as the test says, over the agents' own HTTP."""

    def __init__(self, server: Embedded) -> None:
        api = httpx.Client(base_url=server.base_url, timeout=30)
        access = api.post("/api/auth/token", json={"email": EMAIL, "password": PASSWORD}).json()["access"]
        bearer = {"Authorization": f"Bearer {access}"}
        enrol = api.post("/api/admin/workers", json={"name": "e2e"}, headers=bearer).json()["token"]
        facts = {"token": enrol, "name": "anvil", "cpu": 4000, "memory": 8192, "storage": 50_000, "engine": "Docker 28"}
        token = api.post("/api/agent/register", json=facts).json()["token"]
        self.http = httpx.Client(base_url=server.base_url, timeout=30, headers={"Authorization": f"Agent {token}"})
        self.at = {"stdout": 0, "stderr": 0}

    def take(self) -> None:
        found = self.http.post("/api/agent/claim?wait=10").json()
        self.path, self.fence = f"/api/agent/tasks/{found['task']}", found["fence"]
        for percent in (20, 60, 90):
            usage = {"fence": self.fence, "metrics": {"cpu": percent, "memory": 100 + percent, "network_in": 1e6}}
            assert self.http.post(f"{self.path}/renew", json=usage).status_code == 200
        assert self.http.post(f"{self.path}/start", json={"fence": self.fence}).status_code == 200
        self.http.post("/api/agent/worker/heartbeat", json={"usage": {"cpu": 120, "memory": 2048, "storage": 20_000}})

    def say(self, stream: str, text: str) -> None:
        query = {"stream": stream, "offset": self.at[stream], "fence": self.fence}
        answer = self.http.post(f"{self.path}/logs", params=query, content=text.encode())
        assert answer.status_code == 202, answer.text
        self.at[stream] = answer.json()["offset"]

    def end(self, exit_class: str, code: int) -> None:
        body = {"fence": self.fence, "exit_class": exit_class, "exit_code": code}
        assert self.http.post(f"{self.path}/finish", json=body).status_code == 200


def test_a_task_from_the_form_to_its_last_line(open_browser: Callable[..., Any], server: Embedded) -> None:
    page = open_browser()
    sign_up(page, "Taskworks", EMAIL)
    page.goto("/tasks/new")
    page.fill("[name=name]", "bake")
    image = page.locator("[name=image]")
    for wrong in ("No Such Image", "Ubuntu", "a:-x", "https://x.io/a"):
        image.fill(wrong)
        assert image.evaluate("field => field.validity.patternMismatch"), wrong
    page.click("text=Submit")
    assert page.url.endswith("/tasks/new")
    image.fill("f" * 64)  # fits the grammar, yet is an id: only the server knows
    assert image.evaluate("field => field.validity.valid")
    page.click("text=Submit")
    until(page, "document.querySelector('.form-error') !== null")
    assert page.input_value("[name=name]") == "bake"  # nothing typed is lost
    page.fill("[name=image]", "busybox:1.36")
    page.fill("[name=command]", "sh -c 'echo hi'")
    page.fill("[name=secrets]", "TOKEN=planted-91c2")
    page.click("text=Submit")
    page.wait_for_url("**/tasks/*-*/")
    assert "No worker has joined yet" in page.inner_text("#task-state")
    agent = FakeAgent(server)
    agent.take()
    until(page, "document.querySelector('#task-state').textContent.includes('Running')")
    page.reload()
    agent.say("stdout", "::progress 42 loading\n\x1b[32mgreen\x1b[0m <script>alert(1)</script>\n")
    agent.say("stderr", "careful\n")
    until(page, "document.querySelector('[data-log-body]').textContent.includes('careful')")
    until(page, "document.querySelector('#task-state').textContent.includes('42 %')")
    page.fill("[data-log-search] [name=search]", "CAREFUL")
    page.click("[data-log-search] button")
    until(page, "document.querySelector('[data-log-found]').textContent.includes('1 line')")
    assert "planted-91c2" not in page.content()
    page.evaluate("scrollTo(0, 0)")  # the top bar lets shine through what is scrolled under it
    page.wait_for_timeout(300)
    assert axe(page) == []
    shoot(page, "task-running")
    agent.end("error", 3)
    until(page, "document.querySelector('#task-state').textContent.includes('Failed')")
    assert "ended with code 3" in page.inner_text("#task-state")


@pytest.mark.parametrize(("width", "theme"), [(1440, "light"), (1440, "dark"), (390, "light"), (390, "dark")])
def test_every_page_is_accessible(open_browser: Callable[..., Any], width: int, theme: str) -> None:
    page = open_browser(width=width, theme=theme)
    log_in(page, EMAIL)
    page.goto("/workers/")
    worker = page.get_attribute("#worker-cards h2 a", "href")
    page.goto("/tasks/")
    task = page.get_attribute("#tasks tbody a", "href")
    for path in (
        "/tasks/",
        "/tasks/new",
        task,
        "/tasks/wall",
        "/tasks/schedules",
        "/tasks/hooks",
        "/workers/",
        worker,
        "/workers/enrol",
        "/workers/queue",
        "/workers/people",
        "/workers/events",
        "/workers/limits",
        "/workers/keeping",
        "/workers/clusters",
    ):
        page.goto(path)
        page.wait_for_timeout(300)
        name = path.strip("/").replace("/", "-")
        shoot(page, f"tasks-{'worker' if path == worker else 'task' if path == task else name}-{width}-{theme}")
        assert axe(page) == [], path
        wide = page.evaluate(
            "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('.log-body, .tablewrap, pre, .dropdown-menu')).slice(0, 4).map((e) => e.outerHTML.slice(0, 90))"
        )
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{path}: {wide}"
