"""Audit verbs of money."""

from audit import verbs

verbs.register(budget__changed="Changed the budget {target}", prices__imported="Imported prices: {target}")
