"""Pytest plugin loaded first (`-p tests.env`): a data folder and keys of its own before Django reads its settings."""

import base64
import os
import tempfile

os.environ.setdefault("CURFEW_DATA", tempfile.mkdtemp(prefix="curfew-test-"))
os.environ.setdefault("CURFEW_SECRET_KEY", "tests-only-secret-key-that-is-long-enough-for-the-deploy-checks-0123456789")
os.environ.setdefault("CURFEW_JWT_KEY", "tests-only-jwt-key-that-is-long-enough-0123456789")
os.environ.setdefault("CURFEW_ENCRYPTION_KEYS", "k1:" + base64.b64encode(b"1" * 32).decode())
os.environ.setdefault("CURFEW_ALLOWED_HOSTS", "localhost,127.0.0.1,testserver")
os.environ.setdefault("CURFEW_EMAIL_URL", "memorymail://")
os.environ.setdefault("CURFEW_NO_WORKER", "1")
os.environ.setdefault("CURFEW_STATIC_FROM_SOURCE", "1")  # a fresh clone has no collected static files
_worker = os.environ.get("PYTEST_XDIST_WORKER", "")
if _worker.startswith("gw") and os.environ.get("REDIS_URL"):
    # A Redis database for each process of the run: one empties its cache while another counts in its own.
    server = (
        os.environ["REDIS_URL"].rpartition("/")[0]
        if os.environ["REDIS_URL"].count("/") > 2
        else os.environ["REDIS_URL"]
    )
    os.environ["REDIS_URL"] = f"{server}/{int(_worker[2:]) + 1}"
