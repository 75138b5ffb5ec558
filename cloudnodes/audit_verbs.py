"""Audit verbs of cloud nodes."""

from audit import verbs

verbs.register(
    node__found="Found {target}",
    node__gone="{target} is gone",
    node__forgotten="Forgot {target} with its account",
    node__wake_requested="Asked to wake {target}",
    node__sleep_requested="Asked to put {target} to sleep",
    node__woke="{target} woke",
    node__fell_asleep="{target} fell asleep",
    node__wake_failed="{target} could not be woken",
    node__sleep_failed="{target} could not be put to sleep",
    node__changed_outside="{target} was changed outside Curfew",
    node__attributed="Learned who changed {target} outside Curfew",
    node__lost="{target} cannot be seen any more",
    node__error_dismissed="Dismissed the error of {target}",
    node__rule_changed="Changed when {target} is switched automatically",
    node__kept_awake="Kept {target} awake",
    node__run_began="A workflow run began on {target}",
    node__run_ended="A workflow run ended on {target}",
    node__declared="Declared {target}",
    node__declaration_withdrawn="Took back the declaration of {target}",
    node__repriced="The price of {target} changed",
)
