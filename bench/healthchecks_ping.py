"""The ping endpoint of healthchecks, timed like our heartbeat: whole requests through Django's test client, SQLite.

    CHECKOUT/venv/bin/python bench/healthchecks_ping.py CHECKOUT

CHECKOUT is a checkout of that project with its requirements in CHECKOUT/venv; nothing of it stands here. A new database is
made in a temporary folder. Printed: processor milliseconds a ping, and percentiles of the wall clock in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path

CHECKS, ROUNDS, WARM = 100, 4, 20


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="bench/healthchecks_ping.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path)
    checkout = parser.parse_args().checkout.resolve()
    os.chdir(checkout)
    sys.path[0] = str(checkout)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"DJANGO_SETTINGS_MODULE": "hc.settings", "DB_NAME": f"{folder}/hc.sqlite", "DEBUG": "False"}
        os.environ |= {"SECRET_KEY": "bench-only", "ALLOWED_HOSTS": "*"}
        print(json.dumps({"bench": "healthchecks_ping", "load": round(os.getloadavg()[0], 1), **measured()}))


def measured() -> dict[str, float]:
    """Milliseconds of each ping, summed up."""
    import django

    django.setup()
    from django.apps import apps
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    owner = User.objects.create(username="owner", email="owner@bench.test")
    project = apps.get_model("accounts", "Project").objects.create(owner=owner, badge_key="bench", name="bench")
    check = apps.get_model("api", "Check").objects
    addresses = [f"/ping/{check.create(project=project, name=str(n)).code}" for n in range(CHECKS)]
    client = Client()
    for address in addresses[:WARM]:
        assert client.get(address).status_code == 200
    took, processor = [], time.process_time()
    for address in addresses * ROUNDS:
        began = time.perf_counter()
        client.get(address)
        took.append((time.perf_counter() - began) * 1000)
    processor = (time.process_time() - processor) * 1000 / len(took)
    took.sort()
    shares = {f"p{share}_ms": round(took[len(took) * share // 100], 2) for share in (50, 95, 99)}
    return {"pings": len(took), "cpu_ms": round(processor, 2), **shares}


if __name__ == "__main__":
    main()
