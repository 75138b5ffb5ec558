"""Every write of tasks and workers."""

from taskrunner.services.claiming import Claim, claim, claim_some, renew, start
from taskrunner.services.ending import cancel, delete, finish, retry, sweep_leases, sweep_waiting
from taskrunner.services.holding import add_worker, claim_again, hold, measure, say
from taskrunner.services.hooking import call_hook, delete_hook, save_hook, tell_change
from taskrunner.services.keeping import forget_old, save_keeping, settings_of
from taskrunner.services.logging import STREAMS, append_log, append_pieces, log_end
from taskrunner.services.repeating import delete_schedule, run_due_schedules, save_schedule
from taskrunner.services.storing import drop_objects, move_logs
from taskrunner.services.submitting import (
    check,
    delete_template,
    save_template,
    set_shared,
    submit,
    submit_many,
)
from taskrunner.services.waking import wake_and_rest
from taskrunner.services.workers import beat, register, remove_worker, save_quota, save_worker

__all__ = [
    "STREAMS",
    "Claim",
    "add_worker",
    "append_log",
    "append_pieces",
    "beat",
    "call_hook",
    "cancel",
    "check",
    "claim",
    "claim_again",
    "claim_some",
    "delete",
    "delete_hook",
    "delete_schedule",
    "delete_template",
    "drop_objects",
    "finish",
    "forget_old",
    "hold",
    "log_end",
    "measure",
    "move_logs",
    "register",
    "remove_worker",
    "renew",
    "retry",
    "run_due_schedules",
    "save_hook",
    "save_keeping",
    "save_quota",
    "save_schedule",
    "save_template",
    "save_worker",
    "say",
    "set_shared",
    "settings_of",
    "start",
    "submit",
    "submit_many",
    "sweep_leases",
    "sweep_waiting",
    "tell_change",
    "wake_and_rest",
]
