"""Requests to S3 with AWS Signature Version 4: all that destinations and anchors need of it."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from core import clock


def signed_headers(
    url: str,
    data: bytes,
    region: str,
    secrets: Mapping[str, Any],
    *,
    method: str = "PUT",
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Headers of a request; `secrets` holds access_key_id and secret_access_key. The query's names must be in order.

    `more` are headers that are sent and signed too, names in lower case.
    """
    parts = urlsplit(url)
    moment = clock.now().strftime("%Y%m%dT%H%M%SZ")
    content = hashlib.sha256(data).hexdigest()
    sent = {"x-amz-content-sha256": content, "x-amz-date": moment, **(more or {})}
    headers = {"host": parts.netloc, **sent}
    names = ";".join(sorted(headers))
    canonical = [f"{name}:{headers[name]}" for name in sorted(headers)]
    request = "\n".join([method, parts.path, parts.query, *canonical, "", names, content])
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secrets['secret_access_key']}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    made = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = (
        f"AWS4-HMAC-SHA256 Credential={secrets['access_key_id']}/{scope}, SignedHeaders={names}, Signature={made}"
    )
    return {**sent, "Authorization": credential}
