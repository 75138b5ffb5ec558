"""Everything that writes the audit log or its settings."""

from audit.selectors import as_mapping
from audit.services.checkpoints import as_anchor, checkpoint_all, make_checkpoint
from audit.services.exports import Download, get_export, operator, start_export
from audit.services.recording import record, record_alone
from audit.services.retention import change_settings, purge, purge_all, settings_of
from audit.services.sealing import seal_all, seal_organization

__all__ = [
    "Download",
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
    "seal_all",
    "seal_organization",
    "settings_of",
    "start_export",
]
