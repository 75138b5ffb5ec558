"""Celery with shorter leases: `python -m tests.live.worker SECONDS worker --pool threads ...`, else as the shipped worker."""

from __future__ import annotations

import sys

import django


def main() -> None:
    seconds = int(sys.argv[1])
    django.setup()
    from config.celery import app
    from operations import registry

    for executor in registry.all_executors():
        executor.lease_seconds = seconds
    app.start(sys.argv[2:])


if __name__ == "__main__":
    main()
