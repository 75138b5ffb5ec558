"""Audit verbs of install packages."""

from audit import verbs

verbs.register(
    package__downloaded="Downloaded the install package {target}",
    package__deleted="Deleted the file of the install package {target}",
)
