"""The grid: node types as rows, providers as columns, for one GPU tier; with true figures for its banner."""

from __future__ import annotations

from collections import Counter
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
    UNMEASURED_SECONDS,
    ErrorOn,
    Scales,
    provider_words,
    tier_rank,
    tier_words,
)
from cloudnodes.models import AccountPoll, CloudNode
from cloudnodes.selectors.nodes import active_operations, learned_seconds, list_nodes
from cloudnodes.selectors.preview import name_of, why_kept
from core.actor import Actor
from core.sleepable import SleepState
from costs import selectors as costs
from operations.models import Operation

CURRENCY = "USD"


@dataclass(frozen=True, slots=True)
class Ring:
    """A countdown: seconds left of how many; `measured` is False when the total is only the usual guess."""

    left: int
    total: int
    measured: bool


@dataclass(frozen=True, slots=True)
class NodeCell:
    """One node in the grid. `look` is its class, `action` what its button offers: retry-wake, retry-sleep, deallocate,
    look, or nothing. `on` is what the switch shows, `can_switch` whether there is one.
    """

    id: UUID
    name: str
    place: str
    url: str
    state: str
    look: str
    price: Decimal | None
    on: bool
    can_switch: bool
    since: datetime | None
    action: str = ""
    error: str = ""
    error_code: str = ""
    next_step: str = ""
    step: str = ""
    ring: Ring | None = None
    operation_id: UUID | None = None
    can_cancel: bool = False
    account_id: UUID | None = None
    credentials: bool = False

    @property
    def brief(self) -> str:
        """The cause in two or three words, where there are some."""
        return _BRIEF.get(self.error_code, self.error)

    @property
    def word(self) -> str:
        return _WORDS[self.state][0]

    @property
    def icon(self) -> str:
        return _WORDS[self.state][1]


_BRIEF = {
    "capacity_unavailable": "No capacity",
    "quota_exceeded": "A limit is reached",
    "credentials_refused": "Credentials refused",
    "permission_missing": "A right is missing",
    "start_timeout": "Took too long",
    "stop_timeout": "Took too long",
    "not_ready": "No answer",
    "start_reverted": "Fell back",
    "unreachable": "Not reachable",
    "timed_out": "No answer in time",
    "gone": "Deleted",
}
# The eight words, and two that say more than "Unmanaged" and "Trouble" would.
_WORDS = {
    "awake": ("Awake", "sun"),
    "asleep": ("Asleep", "moon"),
    "waking": ("Waking", "sunrise"),
    "falling": ("Falling asleep", "sunset"),
    "contested": ("Contested", "swords"),
    "trouble": ("Trouble", "alert-triangle"),
    "lost": ("Lost", "plug-connected-x"),
    "unmanaged": ("Unmanaged", "shield"),
    "auto": ("Always on", "infinity"),
    "still_billing": ("Still billing", "coin"),
}


@dataclass(frozen=True, slots=True)
class Cell:
    """What one provider offers of one type: usually one node, none, or several in several accounts or regions."""

    provider: str
    label: str
    nodes: tuple[NodeCell, ...]


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


@dataclass(slots=True)
class Grid:
    """Everything the page and the dialog show. `rate` is the organization's burn rate in USD per hour."""

    tier: str
    tier_label: str
    tiers: list[Tier]
    columns: list[Column]
    rows: list[Row]
    banner: Banner
    start_all: Bulk
    stop_all: Bulk
    rate: Decimal
    counts: dict[str, int]
    problems: list[Problem]
    troubles: list[NodeCell]
    checked_at: datetime | None
    waking: bool
    can_operate: bool
    has_accounts: bool
    currency: str = CURRENCY
    words: list[str] = field(default_factory=list)


def get_grid(*, actor: Actor, tier: str = "") -> Grid:
    """The grid of a tier: the asked one, else the recommended, else the first there is. Seven queries, however many nodes."""
    everything = list_nodes(actor=actor)
    accounts = list(
        CloudAccount.objects.visible_to(actor)
        .filter(provider__in=list(PROVIDERS))
        .exclude(method="")
        .order_by("created_at")
    )
    tiers = _tiers(everything, tier)
    chosen = next((t for t in tiers if t.selected), None)
    nodes = [n for n in everything if chosen and n.gpu_tier == chosen.value]
    operations = active_operations([n.id for n in nodes])
    learned = learned_seconds(START, [n.subject for n in nodes])
    polls = list(AccountPoll.objects.visible_to(actor).select_related("account"))
    rate, _ = costs.burn_rate(actor)
    columns = _columns(everything, nodes, accounts)
    cells = {n.id: cell_of(n, operations.get(n.id)) for n in nodes}
    looked = [p.ok_at for p in polls if p.ok_at]
    return Grid(
        tier=chosen.value if chosen else "",
        tier_label=chosen.label if chosen else "",
        tiers=tiers,
        columns=columns,
        rows=_rows(nodes, columns, cells),
        banner=_banner(nodes, learned),
        start_all=_bulk(nodes, operations, wake=True),
        stop_all=_bulk(nodes, operations, wake=False),
        rate=rate,
        counts=dict(Counter(str(n.observed_state) for n in nodes)),
        problems=[_problem(p) for p in polls if p.failures],
        troubles=[cells[n.id] for n in nodes if n.error_on and n.id not in operations],
        checked_at=min(looked) if looked else None,
        waking=any(c.state in ("waking", "falling") for c in cells.values()),
        can_operate=actor.can("nodes.operate"),
        has_accounts=bool(accounts),
        words=_summary(nodes),
    )


def _tiers(nodes: list[CloudNode], asked: str) -> list[Tier]:
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


def _columns(everything: list[CloudNode], nodes: list[CloudNode], accounts: list[CloudAccount]) -> list[Column]:
    connected = {a.provider for a in accounts}
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
            Cell(c.provider, c.label, tuple(cells[n.id] for n in mine if n.provider == c.provider)) for c in columns
        )
        rows.append(Row(kind.id, kind.name, kind.description, placed))
    return rows


_LOOKS = {
    SleepState.AWAKE: "awake",
    SleepState.ASLEEP: "asleep",
    SleepState.WAKING: "waking",
    SleepState.FALLING: "falling",
    SleepState.CONTESTED: "stuck",
    SleepState.TROUBLE: "trouble",
    SleepState.LOST: "trouble",
    SleepState.UNMANAGED: "auto",
}


def cell_of(node: CloudNode, operation: Operation | None) -> NodeCell:
    state = SleepState(node.observed_state)
    stuck = node.still_billing and not node.error_on and operation is None
    return NodeCell(
        id=node.id,
        name=name_of(node),
        place=" · ".join(part for part in (node.instance_name, node.region, node.instance_type) if part),
        url=node.get_absolute_url(),
        state="auto" if node.scaling == Scales.TO_ZERO else "still_billing" if stuck else str(state.value),
        look="stuck" if stuck else _LOOKS[state],
        price=node.hourly_cost,
        on=node.is_on,
        can_switch=node.can_switch
        and operation is None
        and state in (SleepState.AWAKE, SleepState.ASLEEP, SleepState.CONTESTED),
        since=node.state_since,
        action=_action(node, state, stuck=stuck) if operation is None else "",
        error=node.error or (operation.error if operation else ""),
        error_code=node.error_code,
        next_step=node.next_step,
        step=_step(operation) if operation else "",
        ring=ring_of(operation) if operation else None,
        operation_id=operation.id if operation else None,
        can_cancel=operation.can_cancel if operation else False,
        account_id=node.account_id,
        credentials=node.error_code in ACCOUNT_CODES,
    )


def _action(node: CloudNode, state: SleepState, *, stuck: bool) -> str:
    if stuck:
        return "deallocate"
    if node.error_on and node.can_switch:
        return "retry-wake" if node.error_on == ErrorOn.START else "retry-sleep"
    return "look" if state is SleepState.LOST else ""


def _step(operation: Operation) -> str:
    if operation.cancel_requested_at:
        return "cancelling"
    if operation.error:
        return f"trying again: {operation.error}"
    if not operation.steps_total:
        return "queued"
    return f"step {min(operation.steps_done + 1, operation.steps_total)} of {operation.steps_total}"


def ring_of(operation: Operation) -> Ring:
    """The countdown of an operation under way, from its learned median; sixty seconds when nothing is known."""
    total = max(1, round(operation.expected_seconds or UNMEASURED_SECONDS))
    left = max(0, round(total - operation.elapsed.total_seconds()))
    return Ring(left, total, operation.expected_seconds is not None)


def _banner(nodes: list[CloudNode], learned: dict[str, float]) -> Banner:
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


def _bulk(nodes: list[CloudNode], busy: dict[UUID, Operation], *, wake: bool) -> Bulk:
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


def _summary(nodes: list[CloudNode]) -> list[str]:
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
