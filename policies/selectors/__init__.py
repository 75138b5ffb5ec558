"""Every read of node templates and policies: scoped and evaluated."""

from policies.selectors.applied import Applied, applied, applied_to
from policies.selectors.found import get_policy, get_template, list_policies, list_templates

__all__ = [
    "Applied",
    "applied",
    "applied_to",
    "get_policy",
    "get_template",
    "list_policies",
    "list_templates",
]
