"""A small OpenID provider over HTTP: discovery, authorize, token with PKCE, user info, RS256 keys.

    with FakeOidc() as oidc:
        oidc.person = {"sub": "1", "email": "nina@larkspur.test", "email_verified": True}

`claims` changes the ID token of the next log-in, `sign_with` the key it is signed with, `userinfo` the user info.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm

CLIENT_ID, CLIENT_SECRET, KID = "curfew", "planted-oidc-secret", "key-1"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


class FakeOidc:
    def __init__(self) -> None:
        self.person: dict[str, Any] = {}
        self.claims: Callable[[dict[str, Any]], dict[str, Any]] = lambda made: made
        self.userinfo: dict[str, Any] = {}
        self.sign_with: Any = KEY
        self.algorithm = "RS256"
        self.issuer_claimed = ""
        self._codes: dict[str, dict[str, str]] = {}

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer._get(self)

            def do_POST(self) -> None:
                form = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                outer._token(self, {name: values[0] for name, values in parse_qs(form).items()})

            def log_message(self, *args: object) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def _get(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/.well-known/openid-configuration":
            _json(handler, self._discovery())
        elif parts.path == "/jwks":
            public = json.loads(RSAAlgorithm.to_jwk(KEY.public_key()))
            _json(handler, {"keys": [{**public, "kid": KID, "use": "sig", "alg": "RS256"}]})
        elif parts.path == "/authorize":
            self._authorize(handler, asked)
        elif parts.path == "/userinfo" and handler.headers.get("Authorization", "").startswith("Bearer at-"):
            _json(handler, {**self.person, **self.userinfo})
        else:
            _json(handler, {"error": "not_found"}, 404)

    def _discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer_claimed or self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint_auth_methods_supported": ["client_secret_post"],
        }

    def _authorize(self, handler: BaseHTTPRequestHandler, asked: dict[str, str]) -> None:
        """The person is logged in here already and says yes."""
        good = (
            asked.get("client_id") == CLIENT_ID
            and asked.get("response_type") == "code"
            and "openid" in asked.get("scope", "")
            and asked.get("code_challenge_method") == "S256"
        )
        if not good:
            _json(handler, {"error": "invalid_request"}, 400)
            return
        code = secrets.token_hex(8)
        self._codes[code] = asked
        handler.send_response(302)
        handler.send_header("Location", f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    def _token(self, handler: BaseHTTPRequestHandler, form: dict[str, str]) -> None:
        asked = self._codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            asked is None
            or (form.get("client_id"), form.get("client_secret")) != (CLIENT_ID, CLIENT_SECRET)
            or form.get("redirect_uri") != asked["redirect_uri"]
            or challenge.rstrip(b"=").decode() != asked["code_challenge"]
        ):
            _json(handler, {"error": "invalid_grant"}, 400)
            return
        now = int(time.time())
        made = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "iat": now,
            "exp": now + 300,
            "nonce": asked.get("nonce", ""),
            **self.person,
        }
        token = jwt.encode(self.claims(made), self.sign_with, self.algorithm, headers={"kid": KID})
        _json(handler, {"access_token": f"at-{secrets.token_hex(8)}", "token_type": "Bearer", "id_token": token})


def _json(handler: BaseHTTPRequestHandler, body: Any, status: int = 200) -> None:
    data = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)
