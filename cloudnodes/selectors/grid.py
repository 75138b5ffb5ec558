"""The grid: node types as rows, providers as columns, for one GPU tier; with true figures for its banner."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from accounts.models import CloudAccount
from cloudnodes.enums import (
    ACCOUNT_CODES,
    FIXED_COLUMNS,
    PROVIDERS,
    START,
    Scales,
    not_offered,
    provider_words,
    tier_rank,
    tier_words,
)
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.selectors.cells import NodeCell, cell_of
from cloudnodes.selectors.nodes import Light, learned_seconds, light_nodes, operations_under_way, visible_nodes
from cloudnodes.selectors.preview import why_kept
from core.actor import Actor
from core.sleepable import SleepState
from costs import selectors as costs
from operations.models import Operation

CURRENCY = "USD"
ROWS = 50
MOST_TROUBLES = 8


@dataclass(frozen=True, slots=True)
class Cell:
    """What one provider has of one type: usually one node, none, or several in several accounts or regions.
    `not_offered` says why it cannot have any in this tier."""

    provider: str
    label: str
    nodes: tuple[NodeCell, ...]
    not_offered: str


@dataclass(frozen=True, slots=True)
class Row:
    id: UUID
    name: str
    description: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True)
class Column:
    """A provider; `places` are the regions of the nodes shown, or the engine's host."""

    provider: str
    label: str
    icon: str
    places: str
    connected: bool


@dataclass(frozen=True, slots=True)
class Tier:
    value: str
    label: str
    hint: str
    recommended: bool
    selected: bool
    count: int


@dataclass(frozen=True, slots=True)
class Problem:
    """An account that cannot be read now; `credentials` when new ones would help."""

    account_id: UUID
    account: str
    provider: str
    message: str
    next_step: str
    credentials: bool
    since: datetime | None


@dataclass(frozen=True, slots=True)
class Banner:
    """True figures. `wake_seconds` is the learned median or None; prices are USD per hour of the nodes shown."""

    wake_seconds: int | None
    wake_longest: int | None
    cheapest: Decimal | None
    dearest: Decimal | None
    unpriced: int
    off: int
    total: int
    manual: int
    by_itself: int


@dataclass(frozen=True, slots=True)
class Bulk:
    """What Start all or Stop all would change; `delta` adds up the known prices."""

    count: int
    delta: Decimal
    unpriced: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Which of the node types are shown; `searchable` when there are more than fit, or something is searched for."""

    number: int
    last: int
    total: int
    first: int
    shown: int
    search: str
    searchable: bool
    types: frozenset[UUID]

    @property
    def end(self) -> int:
        return self.first + self.shown - 1

    @property
    def previous(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def next(self) -> int | None:
        return self.number + 1 if self.number < self.last else None


@dataclass(slots=True)
class Grid:
    """Everything the page and the dialog show. `rate` is the organization's burn rate in USD per hour; `teams` are those
    ("": none) of nodes whose start costs money."""

    tier: str
    tier_label: str
    tiers: list[Tier]
    columns: list[Column]
    rows: list[Row]
    pages: Pages
    banner: Banner
    start_all: Bulk
    stop_all: Bulk
    rate: Decimal
    problems: list[Problem]
    troubles: list[NodeCell]
    checked_at: datetime | None
    waking: bool
    can_operate: bool
    has_accounts: bool
    teams: frozenset[str]
    currency: str = CURRENCY
    words: list[str] = field(default_factory=list)

    @property
    def shape(self) -> str:
        """Names what is where: two grids of one shape differ only in what their rows, and the lines above them, say."""
        parts = (
            [(t.value, t.selected) for t in self.tiers],
            [(c.provider, c.places, c.connected) for c in self.columns],
            [(str(r.id), [[str(n.id) for n in c.nodes] for c in r.cells]) for r in self.rows],
            (self.pages.number, self.pages.last, self.pages.total, self.pages.search),
            (self.can_operate, self.has_accounts),
        )
        return hashlib.blake2b(repr(parts).encode(), digest_size=8).hexdigest()

    def row_of_each(self) -> dict[str, Row]:
        """The row that holds a node, by the node's id as text."""
        return {str(n.id): row for row in self.rows for cell in row.cells for n in cell.nodes}


def get_grid(*, actor: Actor, tier: str = "", search: str = "", page: int = 1) -> Grid:
    """The grid of a tier: the asked one, else the recommended, else the first there is; fifty node types a page.

    Seven queries, however many nodes. The banner, the bulk actions and the troubles are those of the whole tier.
    """
    everything = light_nodes(actor)
    accounts = _connected(actor)
    tiers = _tiers(everything, tier)
    chosen = next((t for t in tiers if t.selected), None)
    mine = [n for n in everything if chosen and n.gpu_tier == chosen.value]
    operations = operations_under_way(actor)
    learned = learned_seconds(START, [n.subject for n in mine])
    polls = list(AccountPoll.objects.visible_to(actor).select_related("account"))
    rate, _ = costs.burn_rate(actor)
    columns = _columns(everything, mine, accounts)
    pages = _page(mine, search, page)
    nodes = _whole(actor, mine, pages.types)
    cells = {n.id: cell_of(n, operations.get(n.id)) for n in nodes}
    looked = [p.ok_at for p in polls if p.ok_at]
    return Grid(
        tier=chosen.value if chosen else "",
        tier_label=chosen.label if chosen else "",
        tiers=tiers,
        columns=columns,
        rows=_rows([n for n in nodes if n.node_type_id in pages.types], columns, cells),
        pages=pages,
        banner=_banner(mine, learned),
        start_all=_bulk(mine, operations, wake=True),
        stop_all=_bulk(mine, operations, wake=False),
        rate=rate,
        problems=[_problem(p) for p in polls if p.failures],
        troubles=[cells[n.id] for n in nodes if n.error_on and n.id not in operations][:MOST_TROUBLES],
        checked_at=min(looked) if looked else None,
        waking=any(n.id in operations for n in mine),
        can_operate=actor.can("nodes.operate"),
        has_accounts=bool(accounts),
        teams=frozenset(n.team for n in mine if n.can_switch and n.hourly_cost != 0),
        words=_summary(mine),
    )


def _connected(actor: Actor) -> set[str]:
    """The providers of connected accounts."""
    rows = CloudAccount.objects.visible_to(actor).filter(provider__in=list(PROVIDERS)).exclude(method="")
    return set(rows.values_list("provider", flat=True))


def _page(mine: list[Light], search: str, number: int) -> Pages:
    """Which node types are shown: those whose name, or one of whose nodes' names, holds every word searched for."""
    words = search.lower().split()
    names: dict[UUID, str] = {}
    texts: dict[UUID, str] = defaultdict(str)
    for node in mine:
        names[node.node_type_id] = node.type_name
        texts[node.node_type_id] += f" {node.type_name} {node.instance_name}".lower()
    found = [t for t in names if all(w in texts[t] for w in words)]
    found.sort(key=lambda t: (names[t].lower(), t))
    last = max(1, -(-len(found) // ROWS))
    number = min(max(1, number), last)
    shown = found[(number - 1) * ROWS : number * ROWS]
    return Pages(
        number=number,
        last=last,
        total=len(found),
        first=(number - 1) * ROWS + 1,
        shown=len(shown),
        search=search,
        searchable=len(names) > ROWS or bool(words),
        types=frozenset(shown),
    )


def _whole(actor: Actor, mine: list[Light], types: frozenset[UUID]) -> list[CloudNode]:
    """The full rows of what is shown, and of what is in trouble wherever it is."""
    wanted = [n.id for n in mine if n.node_type_id in types or n.error_on]
    return list(visible_nodes(actor).filter(id__in=wanted))


def _tiers(nodes: list[Light], asked: str) -> list[Tier]:
    counts = Counter(n.gpu_tier for n in nodes)
    values = sorted(counts, key=tier_rank)
    if asked in counts:
        chosen = asked
    else:
        chosen = next((v for v in values if tier_words(v).recommended), values[0] if values else "")
    return [
        Tier(v, tier_words(v).label, tier_words(v).hint, tier_words(v).recommended, v == chosen, counts[v])
        for v in values
    ]


def _columns(everything: list[Light], nodes: list[Light], connected: set[str]) -> list[Column]:
    present = connected | {n.provider for n in everything}
    found = []
    for provider, words in PROVIDERS.items():
        if provider not in FIXED_COLUMNS and provider not in present:
            continue
        places = sorted({n.region or n.zone for n in nodes if n.provider == provider} - {""})
        told = ", ".join(places) if len(places) < 3 else f"{len(places)} regions"
        if provider == "docker" and not told:
            told = "Docker"
        found.append(Column(provider, words.label, words.icon, told, provider in present))
    return found


def _rows(nodes: list[CloudNode], columns: list[Column], cells: dict[UUID, NodeCell]) -> list[Row]:
    by_type: dict[UUID, list[CloudNode]] = {}
    for node in nodes:
        by_type.setdefault(node.node_type_id, []).append(node)
    rows = []
    for mine in by_type.values():
        kind = mine[0].node_type
        placed = tuple(
            Cell(
                c.provider,
                c.label,
                tuple(cells[n.id] for n in mine if n.provider == c.provider),
                not_offered(c.provider, mine[0].gpu_tier),
            )
            for c in columns
        )
        rows.append(Row(kind.id, kind.name, kind.description, placed))
    return rows


def _banner(nodes: list[Light], learned: dict[str, float]) -> Banner:
    manual = [n for n in nodes if n.can_switch]
    prices = [n.hourly_cost for n in manual if n.hourly_cost is not None]
    seconds = sorted(round(s) for s in learned.values())
    return Banner(
        wake_seconds=seconds[0] if seconds else None,
        wake_longest=seconds[-1] if seconds else None,
        cheapest=min(prices) if prices else None,
        dearest=max(prices) if prices else None,
        unpriced=len(manual) - len(prices),
        off=sum(not n.is_on for n in manual),
        total=len(nodes),
        manual=len(manual),
        by_itself=sum(n.scaling == Scales.TO_ZERO for n in nodes),
    )


def _bulk(nodes: list[Light], busy: dict[UUID, Operation], *, wake: bool) -> Bulk:
    chosen = [n for n in nodes if not why_kept(n, busy.get(n.id), wake=wake)]
    prices = [n.hourly_cost for n in chosen]
    total = sum((p for p in prices if p is not None), Decimal(0))
    return Bulk(len(chosen), total if wake else -total, sum(p is None for p in prices))


def _problem(poll: AccountPoll) -> Problem:
    account = poll.account
    return Problem(
        account_id=account.id,
        account=account.name,
        provider=provider_words(account.provider).label,
        message=poll.error,
        next_step=poll.next_step,
        credentials=poll.error_code in ACCOUNT_CODES,
        since=poll.ok_at,
    )


def _summary(nodes: list[Light]) -> list[str]:
    """The headline's parts: "2 awake", "1 waking"."""
    counts = Counter(SleepState(n.observed_state) for n in nodes if n.scaling == Scales.MANUAL)
    words = (
        (SleepState.AWAKE, "awake"),
        (SleepState.WAKING, "waking"),
        (SleepState.FALLING, "falling asleep"),
        (SleepState.ASLEEP, "asleep"),
        (SleepState.CONTESTED, "contested"),
        (SleepState.TROUBLE, "in trouble"),
        (SleepState.LOST, "lost"),
    )
    return [f"{counts[state]} {word}" for state, word in words if counts[state]]
