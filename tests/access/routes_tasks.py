"""Routes of tasks and workers."""

from __future__ import annotations

from accounts import services as accounts
from taskrunner import services
from tests.access.matrix import Route, World, api, page

NEW = {"name": "build", "image": "busybox:1", "command": ["true"]}
FORM = {"name": "build", "image": "busybox:1", "cpu": "1", "memory": "64", "timeout": "5", "retry_on": "lost"}


def build(world: World) -> None:
    """A task that waits and one that ended, a worker, a template, a schedule."""
    actor = world.alice.actor
    waiting = services.submit(actor=actor, fields={**NEW, "cpu": 900_000})
    ended = services.submit(actor=actor, fields={**NEW, "name": "ended"})
    _, text = accounts.create_enrolment_token(actor=actor, kind="worker", name="matrix")
    worker, _ = services.register(enrolment=text, facts={"name": "anvil", "cpu": 2000, "memory": 2048})
    claim = services.claim(worker=worker)
    assert claim is not None
    services.append_log(worker=worker, task_id=ended.id, fence=1, stream="stdout", offset=0, data=b"hello\n")
    services.finish(worker=worker, task_id=ended.id, fence=1, exit_class="ok", exit_code=0)
    template = services.save_template(actor=actor, name="matrix", fields=NEW)
    schedule = services.save_schedule(actor=actor, name="nightly", cron="0 3 * * *", zone="UTC", fields=NEW)
    hook, _ = services.save_hook(actor=actor, name="ci", template_id=template.id)
    world.ids.update(
        task=str(waiting.id),
        ended=str(ended.id),
        worker=str(worker.id),
        bob=str(world.bob.user.pk),
        hook=str(hook.id),
        template=str(template.id),
        repeat=str(schedule.id),
    )


def _post(path: str, viewer: int, operator: int, owner: int, stranger: int, body: dict | None = None) -> Route:
    return Route("POST", path, 302, viewer, operator, owner, stranger, body or {})


def _own(method: str, path: str, owner: int, body: dict | None = None) -> Route:
    """An object that only its owner and admins see: others of the organization get 404 like strangers."""
    return api(method, path, viewer=404, operator=404, owner=owner, stranger=404, body=body)


def _agent(path: str) -> Route:
    return api("POST", path, viewer=403, operator=403, owner=403, stranger=403)


NOBODY = "00000000-0000-0000-0000-000000000000"
INVITED = {"email": "new@larkspur.test", "role": "viewer"}
KEPT = {"sample_days": 30, "log_days": None}
TASK, ENDED = "/api/tasks/{task}", "/api/tasks/{ended}"
ALL = {"viewer": 200, "operator": 200, "owner": 200, "stranger": 200}
ONE = {"viewer": 200, "operator": 200, "owner": 200, "stranger": 404}
ROUTES = [
    page("/tasks/"),
    page("/tasks/new", viewer=403, operator=200, owner=200, stranger=200),
    _post("/tasks/new", 403, 302, 302, 302, FORM),
    page("/tasks/wall"),
    page("/tasks/hooks"),
    _post("/tasks/hooks", 403, 422, 422, 422),
    _post("/tasks/hooks/{hook}/delete", 403, 404, 302, 404),
    _post("/tasks/templates/{template}/delete", 403, 302, 302, 404),
    page("/tasks/schedules"),
    _post("/tasks/schedules/{repeat}/delete", 403, 404, 302, 404),
    page("/tasks/{task}/", viewer=404, owner=200, stranger=404),
    _post("/tasks/{task}/cancel", 404, 404, 302, 404),
    _post("/tasks/{ended}/retry", 404, 404, 302, 404),
    _post("/tasks/{ended}/share", 404, 404, 302, 404, {"shared": "on"}),
    _post("/tasks/{ended}/delete", 404, 404, 302, 404),
    page("/workers/"),
    page("/workers/enrol", viewer=403, operator=403, owner=200, stranger=200),
    _post("/workers/enrol", 403, 403, 200, 200, {"name": "more", "hours": "2"}),
    page("/workers/keeping", viewer=403, operator=403, owner=200, stranger=200),
    _post("/workers/keeping", 403, 403, 302, 302, {"log_days": "30"}),
    page("/workers/queue", viewer=403, operator=403, owner=200, stranger=200),
    page("/workers/people", viewer=403, operator=403, owner=200, stranger=200),
    page("/workers/events", viewer=403, operator=403, owner=200, stranger=200),
    page("/workers/limits", viewer=403, operator=403, owner=200, stranger=200),
    _post("/workers/limits", 403, 403, 302, 302, {"row": "all", "all-most_running": "4"}),
    page("/workers/{worker}/", stranger=404),
    _post("/workers/{worker}/change", 403, 302, 302, 404, {"only": "cordoned"}),
    _post("/workers/{worker}/remove", 403, 403, 302, 404),
    api("GET", "/api/tasks", **ALL),
    api("POST", "/api/tasks", viewer=403, operator=201, owner=201, stranger=201, body=NEW),
    api("POST", "/api/tasks/batch", viewer=403, operator=201, owner=201, stranger=201, body={"tasks": [NEW]}),
    api("POST", "/api/tasks/estimate", **ALL, body={"image": "busybox:1"}),
    _own("GET", TASK, 200),
    _own("DELETE", TASK, 202),
    _own("POST", f"{TASK}/cancel", 202),
    _own("POST", f"{ENDED}/retry", 201),
    _own("GET", f"{ENDED}/logs", 200),
    _own("GET", f"{ENDED}/logs.txt", 200),
    _own("GET", f"{TASK}/metrics", 200),
    api("GET", "/api/task-templates", **ALL),
    api("POST", "/api/task-templates", viewer=403, operator=201, owner=201, stranger=201, body=NEW),
    api("DELETE", "/api/task-templates/{template}", viewer=403, operator=204, owner=204, stranger=404),
    api("GET", "/api/task-schedules", **ALL),
    api(
        "POST",
        "/api/task-schedules",
        viewer=403,
        operator=201,
        owner=201,
        stranger=201,
        body={"name": "hourly", "cron": "0 * * * *", "zone": "UTC", "fields": NEW},
    ),
    api("DELETE", "/api/task-schedules/{repeat}", viewer=403, operator=404, owner=204, stranger=404),
    api("GET", "/api/task-hooks", **ALL),
    api(
        "POST",
        "/api/task-hooks",
        viewer=403,
        operator=422,
        owner=422,
        stranger=422,
        body={"name": "x", "template": NOBODY},
    ),
    api("DELETE", "/api/task-hooks/{hook}", viewer=403, operator=404, owner=204, stranger=404),
    api("POST", "/api/hooks/tasks/{hook}", viewer=401, operator=401, owner=401, stranger=401),
    api("GET", "/api/admin/users", viewer=403, operator=403, owner=200, stranger=200),
    api("POST", "/api/admin/users", viewer=403, operator=403, owner=201, stranger=201, body=INVITED),
    api("GET", "/api/admin/users/{bob}", viewer=403, operator=403, owner=200, stranger=404),
    api("PUT", "/api/admin/users/{bob}", viewer=403, operator=403, owner=200, stranger=404, body={"role": "viewer"}),
    api("DELETE", "/api/admin/users/{bob}", viewer=403, operator=403, owner=204, stranger=404),
    api("GET", "/api/admin/logs", viewer=403, operator=403, owner=200, stranger=200),
    api("GET", "/api/admin/task-settings", **ALL),
    api("PUT", "/api/admin/task-settings", viewer=403, operator=403, owner=200, stranger=200, body=KEPT),
    api("GET", "/api/workers", **ALL),
    api("GET", "/api/workers/{worker}", **ONE),
    api("GET", "/api/workers/{worker}/metrics", **ONE),
    api("GET", "/api/workers/{worker}/tasks", **ONE),
    api("POST", "/api/admin/workers", viewer=403, operator=403, owner=201, stranger=201, body={"name": "more"}),
    api(
        "PUT",
        "/api/admin/workers/{worker}",
        viewer=403,
        operator=403,
        owner=200,
        stranger=404,
        body={"auto_start": True},
    ),
    api("DELETE", "/api/admin/workers/{worker}", viewer=403, operator=403, owner=204, stranger=404),
    api("GET", "/api/admin/stats", viewer=403, operator=403, owner=200, stranger=200),
    api("PUT", "/api/admin/quotas", viewer=403, operator=403, owner=200, stranger=200, body={"most_running": 3}),
    api(
        "PUT", "/api/admin/quotas/{worker}", viewer=403, operator=403, owner=404, stranger=404, body={"most_running": 3}
    ),
    api("GET", "/api/telemetry/workers", **ALL),
    api("GET", "/api/telemetry/workers/{worker}", **ONE),
    api(
        "POST",
        "/api/agent/register",
        viewer=401,
        operator=401,
        owner=401,
        stranger=401,
        body={"token": "no", "name": "x", "cpu": 1, "memory": 1},
    ),
    _agent("/api/agent/worker/heartbeat"),
    _agent("/api/agent/claim"),
    _agent("/api/agent/tasks/{task}/renew"),
    _agent("/api/agent/tasks/{task}/start"),
    _agent("/api/agent/tasks/{task}/finish"),
    _agent("/api/agent/tasks/{task}/logs"),
]
