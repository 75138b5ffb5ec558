"""Examples for the browsable documentation."""

from drf_spectacular.utils import OpenApiExample

USER = {
    "id": "6f0d5f3e-1f0a-4a43-9a55-0f3d2f2b7c11",
    "email": "ada@larkspur.example",
    "role": "owner",
    "organization": {"id": "0b6f5d2e-9c3e-4d8e-8a0b-6a1d1a5f1a10", "name": "Larkspur"},
}
TOKENS = {"access": "eyJhbGciOi…", "refresh": "eyJhbGciOi…"}

SIGNUP_IN = OpenApiExample(
    "A new studio",
    value={"organization": "Larkspur", "email": "ada@larkspur.example", "password": "a long walk at dusk"},
    request_only=True,
)
SIGNUP_OUT = OpenApiExample(
    "Signed up",
    value={
        "user": USER,
        "organization": USER["organization"],
        "account": {"id": "2c9d7a50-21f1-4e0b-8c69-9a5a0b9a8f55", "status": "pending"},
        **TOKENS,
    },
    response_only=True,
    status_codes=["201"],
)
LOGIN_IN = OpenApiExample(
    "With a second factor",
    value={"email": "ada@larkspur.example", "password": "a long walk at dusk", "otp": "123456"},
    request_only=True,
)
LOGIN_OUT = OpenApiExample("Logged in", value={**TOKENS, "user": USER}, response_only=True, status_codes=["200"])
MFA_REQUIRED = OpenApiExample(
    "A second factor is set up",
    value={
        "type": "about:blank#mfa_required",
        "title": "Sign in first",
        "status": 401,
        "detail": "Send the code of your authenticator app as `otp`.",
        "code": "mfa_required",
        "request_id": "f3b1…",
    },
    response_only=True,
    status_codes=["401"],
)
INVITATION_IN = OpenApiExample(
    "A colleague", value={"email": "grace@larkspur.example", "role": "operator"}, request_only=True
)
ROLE_IN = OpenApiExample(
    "Prepare a role",
    value={"provider": "aws", "aws_account_id": "123456789012", "region": "us-east-1"},
    request_only=True,
)
CONNECT_ROLE = OpenApiExample(
    "By role, after the stack was launched",
    value={
        "provider": "aws",
        "method": "role",
        "name": "Production",
        "region": "us-east-1",
        "aws_account_id": "123456789012",
    },
    request_only=True,
)
CONNECT_KEYS = OpenApiExample(
    "By access keys",
    value={
        "provider": "aws",
        "method": "keys",
        "name": "Lab",
        "region": "us-east-1",
        "access_key_id": "(your key ID)",
        "secret_access_key": "(your secret)",
    },
    request_only=True,
)
