"""Every read of node templates and policies: scoped and evaluated."""

from policies.selectors.applied import Applied, applied, applied_to, template_of
from policies.selectors.found import get_policy, get_template, list_policies, list_templates
from policies.selectors.history import (
    PolicyRow,
    assignment_of,
    changes_between,
    followers,
    get_version,
    list_policy_rows,
    list_versions,
    others,
)
from policies.selectors.situation import estimate, situation_of
from policies.selectors.templates import Uses, family_prices, judge, name_taken, uses, uses_of

__all__ = [
    "Applied",
    "PolicyRow",
    "Uses",
    "applied",
    "applied_to",
    "assignment_of",
    "changes_between",
    "estimate",
    "family_prices",
    "followers",
    "get_policy",
    "get_template",
    "get_version",
    "judge",
    "list_policies",
    "list_policy_rows",
    "list_templates",
    "list_versions",
    "name_taken",
    "others",
    "situation_of",
    "template_of",
    "uses",
    "uses_of",
]
