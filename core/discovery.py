"""Discoverers: what a scan of a cloud account looks for. Upper apps register theirs in `AppConfig.ready()`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Discoverer:
    """`discover(account, connection)` calls the cloud outside any transaction, commits its own rows and returns counts
    for the account page (`{"instances": 12}`). `providers` are those it knows."""

    name: str
    providers: frozenset[str]
    discover: Callable[[Any, Any], Mapping[str, int]]


_discoverers: dict[str, Discoverer] = {}


def register(discoverer: Discoverer) -> None:
    _discoverers[discoverer.name] = discoverer


def for_provider(provider: str) -> list[Discoverer]:
    return [d for d in _discoverers.values() if provider in d.providers]
