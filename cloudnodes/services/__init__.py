"""Every write of cloud nodes. Verbs take an actor, are audited in their own transaction and call no cloud."""

from cloudnodes.services.discover import close_account, disconnect_effects, sync_discovered
from cloudnodes.services.observe import mark_unreadable, observe, observe_many
from cloudnodes.services.orders import (
    Applied,
    apply_changes,
    begin_order,
    dismiss_error,
    finish_order,
    request_start,
    request_stop,
    start_all,
    stop_all,
)
from cloudnodes.services.polls import account_code, due_accounts, poll_account, request_refresh
from cloudnodes.services.pricing import reprice, reprice_all

__all__ = [
    "Applied",
    "account_code",
    "apply_changes",
    "begin_order",
    "close_account",
    "disconnect_effects",
    "dismiss_error",
    "due_accounts",
    "finish_order",
    "mark_unreadable",
    "observe",
    "observe_many",
    "poll_account",
    "reprice",
    "reprice_all",
    "request_refresh",
    "request_start",
    "request_stop",
    "start_all",
    "stop_all",
    "sync_discovered",
]
