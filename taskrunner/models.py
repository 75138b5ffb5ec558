"""Tasks, their attempts and logs, and the workers that run them."""

from __future__ import annotations

from django.db import models
from django.urls import reverse

from core.models import UuidModel
from core.tenancy import OrgOwned
from taskrunner.enums import FINAL, PENDING, ExitClass, Status, WorkerState
from taskrunner.placing import Resources, Wish


class Worker(UuidModel, OrgOwned):
    """A machine that runs tasks. Capacity is what it reports; `seen_at` its last sign of life.

    `sleepable_kind` and `sleepable_id` name the thing that is put to sleep and woken when the worker is a machine that
    Curfew knows.
    """

    name = models.CharField(max_length=120)
    hostname = models.CharField(max_length=200, blank=True)
    address = models.CharField(max_length=64, blank=True)
    labels = models.JSONField(default=dict, blank=True)
    cpu = models.PositiveIntegerField(default=0)
    memory = models.PositiveIntegerField(default=0)
    storage = models.PositiveBigIntegerField(default=0)
    gpus = models.PositiveSmallIntegerField(default=0)
    gpu_model = models.CharField(max_length=120, blank=True)
    engine = models.CharField(max_length=60, blank=True)
    agent_version = models.CharField(max_length=40, blank=True)
    wanted = models.CharField(max_length=10, choices=WorkerState.choices, default=WorkerState.OPEN)
    token = models.OneToOneField("accounts.AgentToken", on_delete=models.SET_NULL, null=True, related_name="+")
    usage = models.JSONField(default=dict, blank=True)
    sleepable_kind = models.CharField(max_length=40, blank=True)
    sleepable_id = models.UUIDField(null=True, blank=True)
    auto_start = models.BooleanField(default=False)
    auto_stop_minutes = models.PositiveIntegerField(null=True, blank=True)
    host_mounts = models.JSONField(default=list, blank=True)
    idle_since = models.DateTimeField(null=True, blank=True)
    claim_call = models.UUIDField(null=True, blank=True)
    registered_at = models.DateTimeField()
    seen_at = models.DateTimeField(null=True, blank=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="worker_name_once")]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("taskrunner:worker", args=[self.id])

    @property
    def capacity(self) -> Resources:
        return Resources(self.cpu, self.memory, self.storage, self.gpus)


class Task(UuidModel, OrgOwned):
    """A container to run once. `fence` rises with every claim: what an older claim still writes changes nothing."""

    owner = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True, related_name="+")
    owner_label = models.CharField(max_length=200)
    name = models.CharField(max_length=120)
    description = models.CharField(max_length=1000, blank=True)
    image = models.CharField(max_length=1024)
    command = models.JSONField(default=list)
    cpu = models.PositiveIntegerField(default=1000)
    memory = models.PositiveIntegerField(default=512)
    storage = models.PositiveBigIntegerField(default=0)
    gpus = models.PositiveSmallIntegerField(default=0)
    labels = models.JSONField(default=dict)
    environment = models.JSONField(default=dict)
    sealed = models.TextField(blank=True)
    secret_names = models.JSONField(default=list)
    files = models.JSONField(default=list)
    network = models.BooleanField(default=True)
    timeout_seconds = models.PositiveIntegerField(default=3600)
    retries = models.PositiveSmallIntegerField(default=0)
    retry_on = models.JSONField(default=list)
    priority = models.SmallIntegerField(default=0)
    shared = models.BooleanField(default=False)
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    reason = models.CharField(max_length=500, blank=True)
    exit_code = models.IntegerField(null=True)
    exit_class = models.CharField(max_length=12, choices=ExitClass.choices, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    fence = models.PositiveIntegerField(default=0)
    worker = models.ForeignKey(Worker, on_delete=models.SET_NULL, null=True, related_name="tasks")
    lease_expires_at = models.DateTimeField(null=True)
    not_before = models.DateTimeField()
    cancel_requested_at = models.DateTimeField(null=True)
    progress = models.PositiveSmallIntegerField(null=True)
    progress_words = models.CharField(max_length=200, blank=True)
    idempotency_key = models.CharField(max_length=120, null=True)
    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, related_name="+")
    schedule = models.ForeignKey("TaskSchedule", on_delete=models.SET_NULL, null=True, related_name="tasks")
    needs = models.ManyToManyField("self", symmetrical=False, related_name="needed_by")
    created_at = models.DateTimeField()
    queued_at = models.DateTimeField(null=True)
    claimed_at = models.DateTimeField(null=True)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "idempotency_key"], name="task_idempotency_key_once")
        ]
        indexes = [
            models.Index(
                fields=["organization", "-priority", "queued_at", "id"],
                condition=models.Q(status="queued"),
                name="task_queue",
            ),
            models.Index(
                fields=["lease_expires_at"], condition=models.Q(status__in=["claimed", "running"]), name="task_leased"
            ),
            models.Index(fields=["worker", "status"], name="task_of_worker"),
            models.Index(fields=["organization", "-created_at"], name="task_recent"),
            models.Index(fields=["owner", "-created_at"], name="task_of_owner"),
        ]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        return reverse("taskrunner:task", args=[self.id])

    @property
    def seal_name(self) -> str:
        return f"task:{self.id}"

    @property
    def resources(self) -> Resources:
        return Resources(self.cpu, self.memory, self.storage, self.gpus)

    @property
    def wish(self) -> Wish:
        return Wish(self.resources, self.labels)

    @property
    def is_final(self) -> bool:
        return self.status in FINAL

    @property
    def can_cancel(self) -> bool:
        return not self.is_final and self.cancel_requested_at is None

    @property
    def is_pending(self) -> bool:
        return self.status in PENDING


class Attempt(models.Model):
    """One claim of a task by a worker and how it ended; number and fence are the same."""

    task = models.ForeignKey(Task, on_delete=models.CASCADE, related_name="attempts")
    number = models.PositiveIntegerField()
    worker = models.ForeignKey(Worker, on_delete=models.SET_NULL, null=True, related_name="attempts")
    worker_label = models.CharField(max_length=120)
    claimed_at = models.DateTimeField()
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    exit_code = models.IntegerField(null=True)
    exit_class = models.CharField(max_length=12, choices=ExitClass.choices, blank=True)
    reason = models.CharField(max_length=500, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["task", "number"], name="attempt_number_once")]

    def __str__(self) -> str:
        return f"{self.task_id} #{self.number}"


class LogStream(models.Model):
    """Where the log of one attempt ends: lengths of both streams in bytes, and pieces and lines stored."""

    attempt = models.OneToOneField(Attempt, on_delete=models.CASCADE, related_name="log")
    stdout = models.BigIntegerField(default=0)
    stderr = models.BigIntegerField(default=0)
    pieces = models.PositiveIntegerField(default=0)
    lines = models.PositiveBigIntegerField(default=0)
    stored = models.BigIntegerField(default=0)
    truncated_at = models.DateTimeField(null=True)
    removed_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return f"log of {self.attempt_id}"


class LogObject(models.Model):
    """An object of the bucket with pieces of a log; written before the object is, deleted after it is."""

    attempt = models.ForeignKey(Attempt, on_delete=models.SET_NULL, null=True, related_name="+")
    name = models.CharField(max_length=200, unique=True)
    size = models.PositiveBigIntegerField(default=0)
    created_at = models.DateTimeField()
    stored_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.name


class LogPiece(models.Model):
    """Some bytes of one stream, packed with Zstandard; `number` orders both streams as they arrived.

    The packed bytes are in `data`, or in the bucket's object `kept_in`.

    `first_line` and `lines` count displayed lines: one ends at each newline and at the end of a piece.
    """

    attempt = models.ForeignKey(Attempt, on_delete=models.CASCADE, related_name="pieces")
    number = models.PositiveIntegerField()
    stream = models.PositiveSmallIntegerField()
    offset = models.BigIntegerField()
    size = models.PositiveIntegerField()
    first_line = models.PositiveBigIntegerField()
    lines = models.PositiveIntegerField()
    data = models.BinaryField()
    kept_in = models.ForeignKey(LogObject, on_delete=models.PROTECT, null=True, related_name="+")
    kept_at = models.PositiveIntegerField(default=0)
    kept_length = models.PositiveIntegerField(default=0)
    at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["attempt", "number"], name="log_piece_number_once"),
            models.UniqueConstraint(fields=["attempt", "stream", "offset"], name="log_piece_offset_once"),
        ]
        indexes = [models.Index(fields=["attempt", "first_line"], name="log_piece_line")]

    def __str__(self) -> str:
        return f"{self.attempt_id} {self.stream}@{self.offset}"


class Sample(models.Model):
    """Figures of a worker (task null) or of one task: CPU in percent of a core, memory in MiB, rates in bytes/s; of GPUs
    the mean load in percent and the memory in MB. What was not told is null."""

    worker = models.ForeignKey(Worker, on_delete=models.SET_NULL, null=True, related_name="samples")
    task = models.ForeignKey(Task, on_delete=models.CASCADE, null=True, related_name="samples")
    at = models.DateTimeField()
    cpu = models.FloatField(null=True)
    memory = models.FloatField(null=True)
    storage = models.FloatField(null=True)
    gpu = models.FloatField(null=True)
    gpu_memory = models.FloatField(null=True)
    network_in = models.FloatField(null=True)
    network_out = models.FloatField(null=True)
    disk_read = models.FloatField(null=True)
    disk_write = models.FloatField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["worker", "-at"], condition=models.Q(task__isnull=True), name="sample_of_worker"),
            models.Index(fields=["task", "at"], name="sample_of_task"),
        ]

    def __str__(self) -> str:
        return f"{self.worker_id} {self.at:%H:%M:%S}"


class TaskTemplate(UuidModel, OrgOwned):
    """A form filled in once; everybody of the organization may submit from it."""

    name = models.CharField(max_length=120)
    fields = models.JSONField(default=dict)
    created_by_label = models.CharField(max_length=200)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="task_template_name_once")]

    def __str__(self) -> str:
        return self.name


class TaskSchedule(UuidModel, OrgOwned):
    """Submit a task again and again: cron in a zone. A missed time is made good once, not for each time missed."""

    name = models.CharField(max_length=120)
    cron = models.CharField(max_length=120)
    zone = models.CharField(max_length=64)
    fields = models.JSONField(default=dict)
    owner = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    enabled = models.BooleanField(default=True)
    next_at = models.DateTimeField(null=True)
    last_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="task_schedule_name_once")]
        indexes = [models.Index(fields=["next_at"], condition=models.Q(enabled=True), name="task_schedule_due")]

    def __str__(self) -> str:
        return self.name


class TaskSettings(OrgOwned):
    """For how many days figures and logs are kept after a task's end; null is for ever."""

    sample_days = models.PositiveIntegerField(null=True)
    log_days = models.PositiveIntegerField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization"], name="task_settings_once")]

    def __str__(self) -> str:
        return "how long logs and figures of tasks are kept"


class TaskHook(UuidModel, OrgOwned):
    """A signed address that submits a template, with the rights that its owner has at that time.

    `window_at` and `window_count` count the calls of the present minute.
    """

    name = models.CharField(max_length=120)
    template = models.ForeignKey(TaskTemplate, on_delete=models.CASCADE, related_name="hooks")
    owner = models.ForeignKey("accounts.User", on_delete=models.CASCADE, related_name="+")
    sealed = models.TextField()
    per_minute = models.PositiveIntegerField(default=30)
    window_at = models.DateTimeField(null=True)
    window_count = models.PositiveIntegerField(default=0)
    called_at = models.DateTimeField(null=True)
    problem = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()

    class Meta(OrgOwned.Meta):
        constraints = [models.UniqueConstraint(fields=["organization", "name"], name="task_hook_name_once")]

    def __str__(self) -> str:
        return self.name

    @property
    def seal_name(self) -> str:
        return f"task-hook:{self.id}"


class Quota(UuidModel, OrgOwned):
    """Limits of one person, or of everybody together (user null); null is no limit."""

    user = models.ForeignKey("accounts.User", on_delete=models.CASCADE, null=True, related_name="+")
    most_queued = models.PositiveIntegerField(null=True)
    most_running = models.PositiveIntegerField(null=True)
    most_cpu = models.PositiveIntegerField(null=True)
    most_memory = models.PositiveIntegerField(null=True)
    most_gpus = models.PositiveIntegerField(null=True)

    class Meta(OrgOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="task_quota_once"),
            models.UniqueConstraint(
                fields=["organization"], condition=models.Q(user__isnull=True), name="task_quota_of_all_once"
            ),
        ]

    def __str__(self) -> str:
        return f"quota of {self.user_id or 'everybody'}"
