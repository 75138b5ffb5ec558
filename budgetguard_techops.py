#!/usr/bin/env python3
"""The two package commands under the name that older scripts call.

    python budgetguard_techops.py create-install-package --nodes "FLUX Dev,FLUX Canny" --output ./install-package.zip
    python budgetguard_techops.py install-package --package ./install-package.zip

The second needs neither Django nor a database: on a workstation a plain checkout is enough.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
# Options that name a file: Django's commands run in the folder of this file, whoever called from wherever.
FILES = ("--output", "--base", "--catalog", "--sign-key")
COMMANDS = {"create-install-package": "create_install_package", "install-package": "install_package"}


def main(arguments: list[str]) -> int:
    """Run one of the two commands; the exit code."""
    name = arguments[0].replace("_", "-") if arguments else ""
    if name not in COMMANDS:
        sys.stderr.write(f"{__doc__}\n")
        return 0 if name in ("-h", "--help") else 2
    sys.path.insert(0, str(ROOT))
    if name == "install-package":
        from cloudnodes.packages.installer.main import main as install

        return install(arguments[1:])
    command = [sys.executable, str(ROOT / "curfew"), "manage", COMMANDS[name], *absolute(arguments[1:])]
    return os.execv(command[0], command)  # noqa: S606  our own start script


def absolute(arguments: list[str]) -> list[str]:
    """The same arguments with the paths of files spelt out."""
    found: list[str] = []
    for argument in arguments:
        name, separator, value = argument.partition("=")
        if name in FILES and separator:
            found.append(f"{name}={Path(value).absolute()}")
        else:
            found.append(str(Path(argument).absolute()) if found and found[-1] in FILES else argument)
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
