"""What a cluster's inventory says about its money and its health; one module a question.

Pure: no Django, no SDK, no clock. Every function takes the facts of `clusters.analysis.facts` (and the present
moment, where it matters) and returns frozen dataclasses. Three habits hold everywhere:

- what is not known is named, never guessed: an unpriced node is listed, a missing component is said to be missing;
- every figure comes with what it was computed from, so that a page can show the sum;
- a saving is *potential*: nothing here changes a cluster.

Money is `Decimal` US dollars. CPU is in thousandths of a core, memory in bytes, time in aware datetimes.
"""
