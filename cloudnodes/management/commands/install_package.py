"""Install a package on this machine: the installer that travels in every package, under Curfew's own name. Takes its
options and answers with its exit codes (`--help` lists them)."""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import BaseCommand

from cloudnodes.packages.installer.main import main


class Command(BaseCommand):
    help = "Install, upgrade, repair, verify or remove an offline install package on this machine."
    requires_system_checks = ()
    requires_migrations_checks = False

    def run_from_argv(self, argv: list[str]) -> None:
        """Everything after the command's name belongs to the installer."""
        sys.exit(main(argv[2:]))

    def handle(self, *args: Any, **options: Any) -> str | None:
        """For `call_command("install_package", "--package", ...)`; the exit code as text unless it is 0."""
        code = main([str(a) for a in args])
        return str(code) if code else None
