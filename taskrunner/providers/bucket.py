"""A bucket that keeps what logs are made of: S3, or anything that speaks it. Errors are ProviderErrors."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs, urlsplit

from core.providers import AuthenticationFailed, InvalidRequest, NotFound, ProviderError, Unreachable

_GONE = {"NoSuchKey", "404", "NoSuchBucket"}
_REFUSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "403"}


@dataclass(frozen=True, slots=True)
class Place:
    """`s3://bucket/prefix?region=eu-west-1&endpoint=https://…`, and `access key id:secret` or "" for the machine's own."""

    bucket: str
    prefix: str = ""
    region: str = "us-east-1"
    endpoint: str = ""
    key: str = field(default="", repr=False)

    @classmethod
    def read(cls, text: str, key: str = "") -> Place:
        """Raises InvalidRequest."""
        parts = urlsplit(text)
        if parts.scheme != "s3" or not parts.netloc:
            raise InvalidRequest("The bucket for logs is named as s3://bucket/prefix?region=eu-west-1.")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        return cls(
            parts.netloc,
            parts.path.strip("/"),
            query.get("region", "us-east-1"),
            query.get("endpoint", ""),
            key,
        )


@lru_cache(maxsize=4)
def _client(place: Place) -> Any:
    import boto3
    from botocore.config import Config

    who, _, secret = place.key.partition(":")
    return boto3.client(
        "s3",
        region_name=place.region,
        endpoint_url=place.endpoint or None,
        aws_access_key_id=who or None,
        aws_secret_access_key=secret or None,
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"max_attempts": 3, "mode": "standard"},
            s3={"addressing_style": "path"} if place.endpoint else None,
        ),
    )


class Bucket:
    """Whole objects in and out, and parts of them."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def put(self, name: str, data: bytes) -> None:
        self._call("put_object", name, Body=data, ContentType="application/octet-stream")

    def get(self, name: str, start: int, length: int) -> bytes:
        """`length` bytes from `start` on. Raises NotFound when the object is gone."""
        answer = self._call("get_object", name, Range=f"bytes={start}-{start + length - 1}")
        data: bytes = answer["Body"].read()
        return data

    def delete(self, name: str) -> None:
        """Harmless when it is gone."""
        self._call("delete_object", name)

    def _call(self, verb: str, name: str, **given: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError

        key = f"{self.place.prefix}/{name}" if self.place.prefix else name
        try:
            return getattr(_client(self.place), verb)(Bucket=self.place.bucket, Key=key, **given)
        except ClientError as refused:
            code = str(refused.response.get("Error", {}).get("Code", ""))
            words = str(refused.response.get("Error", {}).get("Message", ""))[:300]
            if code in _GONE:
                raise NotFound("The log's bucket does not have this part.", detail=words) from None
            if code in _REFUSED:
                raise AuthenticationFailed("The log's bucket does not accept the key.", detail=words) from None
            raise ProviderError(f"The log's bucket answered {code}.", transient=True, detail=words) from None
        except BotoCoreError as lost:
            raise Unreachable("The log's bucket cannot be reached.", detail=str(lost)[:300]) from None
