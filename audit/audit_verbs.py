"""Verbs of the log about itself."""

from audit import verbs

verbs.register(
    audit__exported="Exported the audit log: {target}",
    audit__settings_changed="Changed the settings of the audit log",
    audit__purged="Removed old lines of the audit log: {target}",
    sink__added="Added the log destination {target}",
    sink__changed="Changed the log destination {target}",
    sink__removed="Removed the log destination {target}",
    sink__replayed="Sent the log again to {target}",
)
