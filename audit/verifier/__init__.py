"""The verifier that an auditor runs without us: `audit_verify.py`, standard library alone."""
