"""The document of a policy: what each card says, as frozen dataclasses. Pure.

`Document.from_json` accepts what `to_json` gives and anything less: what is left out has its default. It refuses what
it does not know, and names every field that is wrong (`InvalidDocument.errors`, "card.field" to messages).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from clusters.inventory.placement import Rules, why_exempt
from policies.enums import (
    THRESHOLDS,
    Level,
    Method,
    Profile,
    Reason,
    Rightsizing,
    SpotPreference,
    Strategy,
)

ALWAYS_EXEMPT = frozenset({"kube-system", "kube-public", "kube-node-lease"})
"""Namespaces that no policy ever touches, whatever its document says: the network (CNI) and DNS live there."""

SYSTEM_WORKLOADS = frozenset(
    {"aws-node", "kube-proxy", "coredns", "kube-dns", "cilium", "calico-node", "canal", "kube-flannel-ds", "weave-net"}
)
"""Names of network and DNS workloads that are never touched, in whatever namespace they run."""

_ALWAYS = Rules()
"""What the webhook leaves alone without being told, the other cards leave alone as well."""

_NAMESPACE = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_KEY = re.compile(r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_NODES = re.compile(r"(0|[1-9]\d{0,3})|(100|\d{1,2})%")
MOST = 200
_W = TypeVar("_W", bound=StrEnum)


class InvalidDocument(ValueError):
    """What was given is no document; `errors` maps "card.field" to messages."""

    def __init__(self, errors: Mapping[str, Sequence[str]]) -> None:
        self.errors = {path: list(words) for path, words in errors.items()}
        super().__init__("; ".join(f"{path}: {' '.join(words)}" for path, words in self.errors.items()))


@dataclass(frozen=True, slots=True)
class Autoscaling:
    """New nodes for pending pods. `template` is a node template's id; "" is the organization's default one."""

    enabled: bool = False
    strategy: Strategy = Strategy.CAPACITY_OPTIMIZED
    template: str = ""
    on_demand_fallback: bool = True


@dataclass(frozen=True, slots=True)
class Budget:
    """At most `nodes` (a number, or a percentage such as "10%") are disrupted at once.

    With a `schedule` (cron, in `Consolidation.zone`) it holds for `minutes` from each start; without one always.
    No reasons: all of them. Several budgets: the smallest that holds. A budget that cannot be worked out allows none.
    """

    nodes: str = "10%"
    schedule: str = ""
    minutes: int = 0
    reasons: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class Consolidation:
    """Fewer or cheaper nodes for the same pods. `zone` is the budgets' time zone; "" is the organization's."""

    enabled: bool = False
    level: Level = Level.BALANCED
    method: Method = Method.DELETE_EMPTY
    stabilization_minutes: int = 10
    zone: str = ""
    budgets: tuple[Budget, ...] = (Budget(),)
    max_new_nodes: int = 1

    @property
    def threshold_percent(self) -> int:
        """A node is a candidate when less than this share of it is used."""
        return THRESHOLDS[self.level]


@dataclass(frozen=True, slots=True)
class Hibernation:
    """The schedule that clusters with this policy follow, by its id; "" leaves theirs as it is."""

    schedule: str = ""


@dataclass(frozen=True, slots=True)
class RightsizingRules:
    """Requests that fit what is used. `headroom_percent` is added to p95; a change that saves less than
    `minimum_monthly` dollars a month for its workload is not made. Nothing is made smaller but between the hours
    `down_from` and `down_until` of the organization's zone; equal hours: at any time."""

    mode: Rightsizing = Rightsizing.RECOMMEND
    profile: Profile = Profile.P95
    headroom_percent: int = 20
    minimum_monthly: Decimal = Decimal(10)
    in_place: bool = True
    down_from: int = 22
    down_until: int = 6


@dataclass(frozen=True, slots=True)
class Placement:
    """Where pods may land."""

    spot: SpotPreference = SpotPreference.NONE
    block_burstable: bool = False
    spread_zones: bool = False

    @property
    def active(self) -> bool:
        """Whether it asks for anything."""
        return self.spot is not SpotPreference.NONE or self.block_burstable or self.spread_zones


@dataclass(frozen=True, slots=True)
class Exemptions:
    """What no card of the policy touches. A label's value "" stands for any value."""

    namespaces: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def reason(self, namespace: str, labels: Mapping[str, str] | None = None, name: str = "") -> str:
        """Why this must be left alone, in words; "" when it need not. `name` is the workload's."""
        if namespace in ALWAYS_EXEMPT:
            return f"system namespace {namespace}"
        if name in SYSTEM_WORKLOADS:
            return f"{name} is part of the cluster's network or DNS"
        if namespace in self.namespaces:
            return f"namespace {namespace} is exempt"
        for key, value in self.labels:
            if labels and key in labels and value in ("", labels[key]):
                return f"label {key}={labels[key]} is exempt"
        return why_exempt(_ALWAYS, namespace, labels or {})


@dataclass(frozen=True, slots=True)
class Document:
    """A whole policy, card by card."""

    autoscaling: Autoscaling = field(default_factory=Autoscaling)
    consolidation: Consolidation = field(default_factory=Consolidation)
    hibernation: Hibernation = field(default_factory=Hibernation)
    rightsizing: RightsizingRules = field(default_factory=RightsizingRules)
    placement: Placement = field(default_factory=Placement)
    exemptions: Exemptions = field(default_factory=Exemptions)

    @classmethod
    def from_json(cls, data: Any) -> Document:
        """Read and check a document. Raises InvalidDocument."""
        return _Reader(data).document()

    def to_json(self) -> dict[str, Any]:
        """The document as it is stored, complete and in a fixed order."""
        return {
            "autoscaling": {
                "enabled": self.autoscaling.enabled,
                "strategy": str(self.autoscaling.strategy),
                "template": self.autoscaling.template,
                "on_demand_fallback": self.autoscaling.on_demand_fallback,
            },
            "consolidation": {
                "enabled": self.consolidation.enabled,
                "level": str(self.consolidation.level),
                "method": str(self.consolidation.method),
                "stabilization_minutes": self.consolidation.stabilization_minutes,
                "zone": self.consolidation.zone,
                "budgets": [
                    {
                        "nodes": b.nodes,
                        "schedule": b.schedule,
                        "minutes": b.minutes,
                        "reasons": [str(r) for r in b.reasons],
                    }
                    for b in self.consolidation.budgets
                ],
                "max_new_nodes": self.consolidation.max_new_nodes,
            },
            "hibernation": {"schedule": self.hibernation.schedule},
            "rightsizing": {
                "mode": str(self.rightsizing.mode),
                "profile": str(self.rightsizing.profile),
                "headroom_percent": self.rightsizing.headroom_percent,
                "minimum_monthly": str(self.rightsizing.minimum_monthly),
                "in_place": self.rightsizing.in_place,
                "down_from": self.rightsizing.down_from,
                "down_until": self.rightsizing.down_until,
            },
            "placement": {
                "spot": str(self.placement.spot),
                "block_burstable": self.placement.block_burstable,
                "spread_zones": self.placement.spread_zones,
            },
            "exemptions": {
                "namespaces": list(self.exemptions.namespaces),
                "labels": [{"key": key, "value": value} for key, value in self.exemptions.labels],
            },
        }


class _Reader:
    """Reads a document and collects everything that is wrong with it."""

    def __init__(self, data: Any) -> None:
        self.errors: dict[str, list[str]] = {}
        self.data = data

    def document(self) -> Document:
        cards = self._mapping("document", self.data, tuple(Document.__dataclass_fields__))
        document = Document(
            autoscaling=self._autoscaling(self._card(cards, "autoscaling", Autoscaling)),
            consolidation=self._consolidation(self._card(cards, "consolidation", Consolidation)),
            hibernation=Hibernation(
                self._id("hibernation.schedule", self._card(cards, "hibernation", Hibernation).get("schedule", ""))
            ),
            rightsizing=self._rightsizing(self._card(cards, "rightsizing", RightsizingRules)),
            placement=self._placement(self._card(cards, "placement", Placement)),
            exemptions=self._exemptions(self._card(cards, "exemptions", Exemptions)),
        )
        if self.errors:
            raise InvalidDocument(self.errors)
        return document

    def _autoscaling(self, card: dict[str, Any]) -> Autoscaling:
        return Autoscaling(
            enabled=self._flag("autoscaling.enabled", card, default=False),
            strategy=self._word("autoscaling.strategy", card, Strategy.CAPACITY_OPTIMIZED),
            template=self._id("autoscaling.template", card.get("template", "")),
            on_demand_fallback=self._flag("autoscaling.on_demand_fallback", card, default=True),
        )

    def _consolidation(self, card: dict[str, Any]) -> Consolidation:
        path = "consolidation"
        zone = self._text(f"{path}.zone", card.get("zone", ""), 64)
        if zone:
            try:
                ZoneInfo(zone)
            except (ValueError, KeyError, OSError):
                self._wrong(f"{path}.zone", f"{zone} is no time zone; write for example Europe/Berlin.")
        budgets: tuple[Budget, ...] = (Budget(),)
        if "budgets" in card:
            rows = self._list(f"{path}.budgets", card["budgets"], 50)
            budgets = tuple(self._budget(f"{path}.budgets.{i}", row) for i, row in enumerate(rows))
        return Consolidation(
            enabled=self._flag(f"{path}.enabled", card, default=False),
            level=self._word(f"{path}.level", card, Level.BALANCED),
            method=self._word(f"{path}.method", card, Method.DELETE_EMPTY),
            stabilization_minutes=self._number(f"{path}.stabilization_minutes", card, 10, 0, 1440),
            zone=zone,
            budgets=budgets,
            max_new_nodes=self._number(f"{path}.max_new_nodes", card, 1, 0, 1),
        )

    def _budget(self, path: str, value: Any) -> Budget:
        row = self._mapping(path, value, tuple(Budget.__dataclass_fields__))
        nodes = row.get("nodes", "10%")
        if isinstance(nodes, int) and not isinstance(nodes, bool):
            nodes = str(nodes)
        if not isinstance(nodes, str) or not _NODES.fullmatch(nodes):
            self._wrong(f"{path}.nodes", "A number of nodes such as 2, or a percentage such as 10%.")
            nodes = "0"
        schedule = self._text(f"{path}.schedule", row.get("schedule", ""), 120)
        minutes = self._number(f"{path}.minutes", row, 0, 0, 7 * 24 * 60)
        if schedule:
            try:
                CronSim(schedule, datetime(2026, 1, 1, tzinfo=UTC))
            except CronSimError:
                self._wrong(f"{path}.schedule", "Five cron fields, such as 0 9 * * 1-5.")
            if not minutes:
                self._wrong(f"{path}.minutes", "Say for how many minutes it holds from each start.")
        elif minutes:
            self._wrong(f"{path}.schedule", "Minutes need a schedule; leave both empty for always.")
        reasons = []
        for word in self._list(f"{path}.reasons", row.get("reasons", []), len(Reason)):
            try:
                reasons.append(Reason(word))
            except ValueError:
                self._wrong(f"{path}.reasons", f"One of {_any_of(Reason)}.")
        return Budget(nodes, schedule, minutes, tuple(dict.fromkeys(reasons)))

    def _rightsizing(self, card: dict[str, Any]) -> RightsizingRules:
        path = "rightsizing"
        minimum = Decimal(10)
        if "minimum_monthly" in card:
            minimum = self._dollars(f"{path}.minimum_monthly", card["minimum_monthly"])
        return RightsizingRules(
            mode=self._word(f"{path}.mode", card, Rightsizing.RECOMMEND),
            profile=self._word(f"{path}.profile", card, Profile.P95),
            headroom_percent=self._number(f"{path}.headroom_percent", card, 20, 10, 50),
            minimum_monthly=minimum,
            in_place=self._flag(f"{path}.in_place", card, default=True),
            down_from=self._number(f"{path}.down_from", card, 22, 0, 23),
            down_until=self._number(f"{path}.down_until", card, 6, 0, 23),
        )

    def _placement(self, card: dict[str, Any]) -> Placement:
        return Placement(
            spot=self._word("placement.spot", card, SpotPreference.NONE),
            block_burstable=self._flag("placement.block_burstable", card, default=False),
            spread_zones=self._flag("placement.spread_zones", card, default=False),
        )

    def _exemptions(self, card: dict[str, Any]) -> Exemptions:
        spaces = []
        for word in self._list("exemptions.namespaces", card.get("namespaces", []), MOST):
            if isinstance(word, str) and _NAMESPACE.fullmatch(word):
                spaces.append(word)
            else:
                self._wrong("exemptions.namespaces", f"{str(word)[:80]!r} cannot be the name of a namespace.")
        labels = []
        for row in self._list("exemptions.labels", card.get("labels", []), MOST):
            pair = self._mapping("exemptions.labels", row, ("key", "value"))
            key, value = pair.get("key", ""), pair.get("value", "")
            if not (isinstance(key, str) and _LABEL_KEY.fullmatch(key)):
                self._wrong("exemptions.labels", f"{str(key)[:80]!r} cannot be the key of a label.")
            elif not (isinstance(value, str) and _LABEL_VALUE.fullmatch(value)):
                self._wrong("exemptions.labels", f"{str(value)[:80]!r} cannot be the value of the label {key}.")
            else:
                labels.append((key, value))
        return Exemptions(tuple(dict.fromkeys(spaces)), tuple(dict.fromkeys(labels)))

    def _wrong(self, path: str, words: str) -> None:
        known = self.errors.setdefault(path, [])
        if words not in known and len(known) < 10:
            known.append(words)

    def _mapping(self, path: str, value: Any, known: Sequence[str]) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            self._wrong(path, "Must be an object.")
            return {}
        for key in value:
            if key not in known:
                self._wrong(f"{path}.{str(key)[:40]}", "There is no such field.")
        return dict(value)

    def _card(self, cards: dict[str, Any], name: str, kind: Any) -> dict[str, Any]:
        return self._mapping(name, cards.get(name, {}), tuple(kind.__dataclass_fields__))

    def _list(self, path: str, value: Any, most: int) -> list[Any]:
        if not isinstance(value, list | tuple):
            self._wrong(path, "Must be a list.")
            return []
        if len(value) > most:
            self._wrong(path, f"At most {most}.")
            return []
        return list(value)

    def _text(self, path: str, value: Any, most: int) -> str:
        if not isinstance(value, str) or len(value) > most:
            self._wrong(path, f"Must be text of at most {most} characters.")
            return ""
        return value.strip()

    def _id(self, path: str, value: Any) -> str:
        if value in ("", None):
            return ""
        try:
            return str(UUID(str(value)))
        except ValueError:
            self._wrong(path, "Must be an id.")
            return ""

    def _flag(self, path: str, card: dict[str, Any], *, default: bool) -> bool:
        value = card.get(path.rpartition(".")[2], default)
        if not isinstance(value, bool):
            self._wrong(path, "Must be true or false.")
            return default
        return value

    def _number(self, path: str, card: dict[str, Any], default: int, least: int, most: int) -> int:
        value = card.get(path.rpartition(".")[2], default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self._wrong(path, f"A whole number from {least} to {most}.")
            return default
        return value

    def _word(self, path: str, card: dict[str, Any], default: _W) -> _W:
        kind: Callable[[Any], _W] = type(default)
        try:
            return kind(card.get(path.rpartition(".")[2], default))
        except ValueError:
            self._wrong(path, f"One of {_any_of(type(default))}.")
            return default

    def _dollars(self, path: str, value: Any) -> Decimal:
        try:
            amount = Decimal(str(value)) if not isinstance(value, bool) else Decimal("NaN")
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not 0 <= amount <= 1_000_000:
            self._wrong(path, "Dollars a month, from 0 to 1000000.")
            return Decimal(10)
        return amount.quantize(Decimal("0.01")).normalize() + 0


def _any_of(words: type[StrEnum]) -> str:
    return ", ".join(word.value for word in words)
