"""Everything that writes the audit log or its settings."""

from audit.selectors import as_mapping
from audit.services.checkpoints import as_anchor, checkpoint_all, make_checkpoint
from audit.services.recording import record, record_alone
from audit.services.sealing import seal_all, seal_organization

__all__ = ["as_anchor", "as_mapping", "checkpoint_all", "make_checkpoint", "record", "record_alone", "seal_all", "seal_organization"]
