"""Audit verbs of schedules and of what people order beside them."""

from audit import verbs

verbs.register(
    schedule__created="Created the schedule {target}",
    schedule__changed="Changed the schedule {target}",
    schedule__deleted="Deleted the schedule {target}",
    schedule__assigned="Put {target} on a schedule",
    schedule__unassigned="Took {target} off its schedule",
    hibernation__woken="Woke {target} beside its schedule",
    hibernation__put_to_sleep="Put {target} to sleep beside its schedule",
    hibernation__snoozed="Put off the sleep of {target}",
)
