"""What stands behind `./curfew`: prepares the machine's Python and front end, then hands over to Django.

Python standard library only, because it runs before any package is installed. Nothing here imports Django or
an app; `core.management.commands.up` uses `runlock` and `keys` from here.
"""
