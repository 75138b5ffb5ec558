"""A cloud that answers at once: who we are depends on the credentials alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from accounts.providers import registry
from accounts.providers.base import Credentials, Identity
from core.providers import AuthenticationFailed, ProviderError

PLANTED = "planted-Secret/9f3kXQ0pl"
KEYS = {"access_key_id": "AKIAPLANTEDKEY000001", "secret_access_key": PLANTED}


@dataclass
class FakeCloud:
    """`numbers` maps an access key ID (or an external ID) to an account number; `error` is raised instead when set."""

    numbers: dict[str, str] = field(default_factory=dict)
    error: ProviderError | None = None
    asked: list[Credentials] = field(default_factory=list)
    during: Callable[[], None] | None = None

    def verify(self, credentials: Credentials) -> Identity:
        self.asked.append(credentials)
        if self.during:
            self.during()
        if self.error:
            raise self.error
        number = (
            credentials.get("aws_account_id")
            if credentials.method == "role"
            else self.numbers.get(credentials.get("access_key_id"), "")
        )
        if not number:
            raise AuthenticationFailed(
                f"AWS does not know the key, it said {credentials.get('secret_access_key')}.", code="wrong_keys"
            )
        return Identity(number, f"alias-{number[:4]}", f"arn:aws:iam::{number}:user/curfew")


class FakeConnection:
    def __init__(self, cloud: FakeCloud, credentials: Credentials) -> None:
        self.cloud, self.credentials = cloud, credentials

    def verify(self) -> Identity:
        return self.cloud.verify(self.credentials)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCloud]:
    """AWS and GCP answer from memory."""
    fake = FakeCloud(numbers={KEYS["access_key_id"]: "123456789012", "AKIASECONDKEY0000002": "222233334444"})
    for provider in ("aws", "gcp"):
        monkeypatch.setitem(
            registry._FACTORIES, provider, lambda credentials, platform, timeouts: FakeConnection(fake, credentials)
        )
    return fake


@pytest.fixture
def platform_account(settings: object) -> str:
    settings.CURFEW_PLATFORM_AWS_ACCOUNT = "999900001111"
    return "999900001111"
