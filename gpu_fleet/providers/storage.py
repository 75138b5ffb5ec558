"""Keys for one machine's repository: short-lived and good for its own folder alone. The account's key stays here."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from core.providers import AuthenticationFailed, InvalidRequest, Unreachable

LIFETIME_SECONDS = 3600 * 6


@dataclass(frozen=True, slots=True)
class Bucket:
    """An S3 bucket (R2, MinIO, AWS) and the key that this server uses for it."""

    bucket: str
    endpoint: str
    region: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    role_arn: str = ""

    def location(self, folder: str) -> str:
        """As restic spells it."""
        base = self.endpoint.rstrip("/") or f"https://s3.{self.region or 'us-east-1'}.amazonaws.com"
        return f"s3:{base}/{self.bucket}/{folder}"

    def environment(self) -> dict[str, str]:
        """For restic on this server."""
        region = {"AWS_DEFAULT_REGION": self.region} if self.region else {}
        return {"AWS_ACCESS_KEY_ID": self.access_key, "AWS_SECRET_ACCESS_KEY": self.secret_key, **region}

    def scoped(self, folder: str, session: str) -> dict[str, str]:
        """Keys for the machine: a role taken with a policy for the one folder. Raises a ProviderError."""
        if not self.role_arn:
            raise InvalidRequest(
                "The storage has no role from which machines get keys of their own.",
                code="no_scoped_keys",
                next_step="Name a role under GPU Fleet, Settings; the account-wide key never leaves this server.",
            )
        return _assume(self, folder, session)


def policy(bucket: str, folder: str) -> dict[str, Any]:
    """Read and write below one folder; deleting is for locks alone."""
    things = f"arn:aws:s3:::{bucket}/{folder}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": f"{things}/*"},
            {"Effect": "Allow", "Action": "s3:DeleteObject", "Resource": f"{things}/locks/*"},
            {"Effect": "Allow", "Action": "s3:GetBucketLocation", "Resource": f"arn:aws:s3:::{bucket}"},
            {
                "Effect": "Allow",
                "Action": "s3:ListBucket",
                "Resource": f"arn:aws:s3:::{bucket}",
                "Condition": {"StringLike": {"s3:prefix": [folder, f"{folder}/*"]}},
            },
        ],
    }


def _assume(bucket: Bucket, folder: str, session: str) -> dict[str, str]:
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "sts",
        endpoint_url=bucket.endpoint or None,
        region_name=bucket.region or "us-east-1",
        aws_access_key_id=bucket.access_key,
        aws_secret_access_key=bucket.secret_key,
    )
    try:
        found = client.assume_role(
            RoleArn=bucket.role_arn,
            RoleSessionName=session[:64],
            Policy=json.dumps(policy(bucket.bucket, folder)),
            DurationSeconds=LIFETIME_SECONDS,
        )["Credentials"]
    except ClientError as refused:
        raise AuthenticationFailed("The storage does not give out keys for a machine.", detail=str(refused)) from None
    except BotoCoreError as lost:
        raise Unreachable("The storage cannot be reached.", detail=str(lost)) from None
    region = {"AWS_DEFAULT_REGION": bucket.region} if bucket.region else {}
    return {
        "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
        "AWS_SESSION_TOKEN": found["SessionToken"],
        **region,
    }
