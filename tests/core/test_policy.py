"""What the browser is told: a strict policy on every page, safe cookies, HTTPS for good."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from tests.access import matrix
from tests.access.matrix import World
from tests.personas import Persona

ROOT = Path(__file__).resolve().parents[2]
INLINE = re.compile(
    r"<script(?![^>]*\bsrc=)(?![^>]*type=\"application/json\")[^>]*>|<style\b|\sstyle=\"|\son[a-z]+=\"|javascript:",
    re.IGNORECASE,
)


@pytest.mark.django_db
def test_every_page_has_the_strict_policy_and_nothing_inline(
    alice: Persona, bob: Persona, olga: Persona, mallory: Persona, settings: Any
) -> None:
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999988887777"
    world = World(alice, bob, olga, mallory)
    for build in matrix.builders():
        build(world)
    alice.user.is_staff = alice.user.is_superuser = True
    alice.user.save()
    client = Client()
    client.force_login(alice.user)
    pages = [
        r.path.format(**world.ids) for r in matrix.all_routes() if r.method == "GET" and not r.api and r.owner == 200
    ]
    wrong = []
    for path in [*pages, "/api/docs/", "/admin/", "/admin/accounts/user/", "/nowhere"]:
        answer = client.get(path)
        policy = answer.get("Content-Security-Policy", "")
        if "default-src 'none'" not in policy or "unsafe" in policy:
            wrong.append(f"{path}: policy {policy!r}")
        if answer.get("X-Content-Type-Options") != "nosniff" or answer.get("X-Frame-Options") != "DENY":
            wrong.append(f"{path}: {answer.headers}")
        if "text/html" in answer.get("Content-Type", ""):
            found = INLINE.search(answer.getvalue().decode())
            if found and not path.startswith("/admin/"):
                wrong.append(f"{path}: {found[0]!r}")
    assert wrong == []


def test_behind_https_the_deployment_check_is_clean_and_cookies_are_safe() -> None:
    """As an operator would run it, with the settings of a server behind HTTPS."""
    code = """
import json, os
import tests.env
import django
django.setup()
from django.conf import settings
from django.core.management import call_command
call_command("check", "--deploy", "--fail-level", "INFO")
names = ("SESSION_COOKIE_SECURE", "CSRF_COOKIE_SECURE", "SECURE_SSL_REDIRECT", "SECURE_HSTS_SECONDS",
         "SECURE_HSTS_INCLUDE_SUBDOMAINS", "SESSION_COOKIE_HTTPONLY", "SESSION_COOKIE_SAMESITE")
print(json.dumps([getattr(settings, n) for n in names]), settings.SILENCED_SYSTEM_CHECKS)
"""
    environment = {
        **os.environ,
        "CURFEW_BASE_URL": "https://curfew.example.com",
        "CURFEW_ALLOWED_HOSTS": "curfew.example.com",
        "DJANGO_SETTINGS_MODULE": "config.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == '[true, true, true, 31536000, true, true, "Lax"] []'
