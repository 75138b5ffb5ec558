"""Audit verbs of operations."""

from audit import verbs

verbs.register(
    operation__requested="Requested work on {target}",
    operation__cancel_requested="Asked to cancel {target}",
    operation__succeeded="Finished work on {target}",
    operation__failed="Work on {target} failed",
    operation__cancelled="Work on {target} was cancelled",
)
