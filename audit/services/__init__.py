"""Everything that writes the audit log or its settings."""

from audit.selectors import as_mapping
from audit.services.checkpoints import as_anchor, checkpoint_all, make_checkpoint
from audit.services.exports import Download, get_export, operator, start_export
from audit.services.recording import record, record_alone
from audit.services.retention import change_settings, purge, purge_all, settings_of
from audit.services.saved_views import remove_view, save_view
from audit.services.sealing import seal_all, seal_organization
from audit.services.shipping import add_sink, remove_sink, replay_sink, set_sink_enabled, ship_all, ship_to, test_sink

__all__ = [
    "Download",
    "add_sink",
    "as_anchor",
    "as_mapping",
    "change_settings",
    "checkpoint_all",
    "get_export",
    "make_checkpoint",
    "operator",
    "purge",
    "purge_all",
    "record",
    "record_alone",
    "remove_sink",
    "remove_view",
    "replay_sink",
    "save_view",
    "seal_all",
    "seal_organization",
    "set_sink_enabled",
    "settings_of",
    "ship_all",
    "ship_to",
    "start_export",
    "test_sink",
]
