"""Every write of clusters: connecting, reports and heartbeats, money, figures, history, steering."""

from clusters.orders.delivery import set_rules
from clusters.orders.delivery import take_answer as take_order_answer
from clusters.orders.keys import public_key as orders_key
from clusters.services.connecting import (
    PREFLIGHT,
    Connected,
    create_cluster,
    disconnect_cluster,
    disconnect_effects,
    from_tags,
    manifest_url,
    mint_for_manifest,
    reinstall,
    release_account,
    update_cluster,
)
from clusters.services.discovering import DISCOVER, connect_found, request_discovery, request_preflight
from clusters.services.figuring import judge_again, refigure, refigure_dirty
from clusters.services.grouping import CHANGE as GROUP_CHANGE
from clusters.services.grouping import groups_due, request_group_change
from clusters.services.heartbeats import mark_lost, record_heartbeat
from clusters.services.history import add_quiet_looks, forget_old
from clusters.services.insights import packing_due, plan
from clusters.services.interruptions import import_spot_bands
from clusters.services.money import reprice_all
from clusters.services.polling import poll_cluster, poll_due
from clusters.services.pools import can_change as can_change_pools
from clusters.services.pools import request_pool_change
from clusters.services.reports import ingest_snapshot
from clusters.services.simulating import beat_sandbox, play_history
from clusters.services.steering import (
    act_on_many,
    apply_to_many,
    begin_maintenance,
    end_maintenance,
    mark_asleep,
    mark_awake,
    sync_now,
)

__all__ = [
    "DISCOVER",
    "GROUP_CHANGE",
    "PREFLIGHT",
    "Connected",
    "act_on_many",
    "add_quiet_looks",
    "apply_to_many",
    "beat_sandbox",
    "begin_maintenance",
    "can_change_pools",
    "connect_found",
    "create_cluster",
    "disconnect_cluster",
    "disconnect_effects",
    "end_maintenance",
    "forget_old",
    "from_tags",
    "groups_due",
    "import_spot_bands",
    "ingest_snapshot",
    "judge_again",
    "manifest_url",
    "mark_asleep",
    "mark_awake",
    "mark_lost",
    "mint_for_manifest",
    "orders_key",
    "packing_due",
    "plan",
    "play_history",
    "poll_cluster",
    "poll_due",
    "record_heartbeat",
    "refigure",
    "refigure_dirty",
    "reinstall",
    "release_account",
    "reprice_all",
    "request_discovery",
    "request_group_change",
    "request_pool_change",
    "request_preflight",
    "set_rules",
    "sync_now",
    "take_order_answer",
    "update_cluster",
]
