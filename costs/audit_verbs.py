"""Audit verbs of money."""

from audit import verbs

verbs.register(
    budget__changed="Changed the budget {target}",
    budget__warned="Warned: {target}",
    budget__refusing="{target} is used up; new starts are refused",
    budget__slept="{target} put something idle to sleep",
    budget__lifted="Let {target} be exceeded for a while",
    prices__imported="Imported prices: {target}",
)
