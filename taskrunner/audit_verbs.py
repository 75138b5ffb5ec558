"""Audit verbs of tasks and workers."""

from audit import verbs

verbs.register(
    task__submitted="Submitted the task {target}",
    task__started="{target} started",
    task__finished="{target} ended",
    task__requeued="{target} waits for another attempt",
    task__cancel_requested="Asked to cancel {target}",
    task__cancelled="{target} was cancelled",
    task__deleted="Deleted the task {target}",
    task__shared="Changed who sees {target}",
    task_template__saved="Saved the task template {target}",
    task_template__deleted="Deleted the task template {target}",
    task_schedule__saved="Saved the task schedule {target}",
    task_schedule__deleted="Deleted the task schedule {target}",
    task_schedule__failed="The task schedule {target} could not submit",
    task_hook__added="Added the task webhook {target}",
    task_hook__removed="Removed the task webhook {target}",
    task_quota__saved="Set the task limits of {target}",
    task_settings__changed="Changed {target}",
    worker__enrolled="The worker {target} joined",
    worker__changed="Changed the worker {target}",
    worker__removed="Removed the worker {target}",
    worker__lost="The worker {target} is not answering",
)
