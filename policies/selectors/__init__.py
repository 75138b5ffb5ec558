"""Every read of node templates and policies: scoped and evaluated."""

from policies.selectors.applied import Applied, applied, applied_to, template_of
from policies.selectors.found import get_policy, get_template, list_policies, list_templates
from policies.selectors.templates import Uses, family_prices, judge, name_taken, uses, uses_of

__all__ = [
    "Applied",
    "Uses",
    "applied",
    "applied_to",
    "family_prices",
    "get_policy",
    "get_template",
    "judge",
    "list_policies",
    "list_templates",
    "name_taken",
    "template_of",
    "uses",
    "uses_of",
]
