"""What the operations `node.start` and `node.stop` do.

Both may be killed at any instruction and are called again with the state they last checkpointed. The intent (a token)
is committed before the order, and whoever resumes reads the node's state before ordering again, so nothing is started
twice. Waiting never holds a thread: `RunAgain`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, TypeVar

from django.db import connection

from cloudnodes import gateway, rules, services
from cloudnodes.enums import SLOW, START, STOP, UNMEASURED_SECONDS, provider_words
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState, NodeProvider, Started
from core import clock
from core.live import publish
from core.providers import AuthenticationFailed, CapacityUnavailable, PermissionDenied, ProviderError
from core.providers import Conflict as Busy
from operations.enums import Status
from operations.models import Operation
from operations.registry import BaseExecutor, OperationFailed, RunAgain, RunContext

WAIT_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 30.0
# What the poller read this recently need not be asked again.
FRESH = timedelta(seconds=3)
# A machine that is down this long after its start was ordered has fallen back.
FALL_BACK = timedelta(seconds=45)
# An order that is not answered by then is said to be slow, long before the call gives up.
SLOW_SECONDS = 2.0
Answer = TypeVar("Answer")
log = logging.getLogger(__name__)


class Patience:
    """While the block waits for a provider: after `SLOW_SECONDS` the pages are told that it is slow, and what follows."""

    def __init__(self, operation: Operation, label: str) -> None:
        self._key = (operation.id, operation.fence)
        self._told = (operation.organization_id, operation.resource_id)
        self._words = (
            f"{label}{SLOW} no answer for {SLOW_SECONDS:g} s. Nothing to do: Curfew waits, and looks what came of it "
            "before it asks again."
        )
        self._timer = threading.Timer(SLOW_SECONDS, self._tell)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()

    def _tell(self) -> None:
        operation_id, fence = self._key
        try:
            rows = Operation.objects.all_orgs().filter(id=operation_id, fence=fence, status=Status.RUNNING)
            if rows.update(step=self._words[:200]):
                publish(self._told[0], "operations", [operation_id, self._told[1]])
        except Exception:  # it is only words: the operation goes on without them
            log.exception("slow_words_failed", extra={"operation_id": str(operation_id)})
        finally:
            connection.close()


class NodeOrder(BaseExecutor):
    """What waking and putting to sleep have in common: order once, follow, look until it is so."""

    queue = "cloud"
    permission = "nodes.operate"
    max_attempts = 4
    lease_seconds = 60
    doing = ""
    steps = 2
    # What the node must not be doing while the order is given: its end is waited for first.
    wait_out: InstanceState | None = None

    def run(self, context: RunContext) -> Mapping[str, Any]:
        """Go as far as is possible now. Refused credentials and missing rights end it under codes that pages know."""
        try:
            return self._run(context)
        except (AuthenticationFailed, PermissionDenied) as refused:
            code = services.account_code(refused)
            raise OperationFailed(refused.message, code=code, next_step=refused.next_step) from None

    def _run(self, context: RunContext) -> Mapping[str, Any]:
        node = self._node(context)
        if "began" not in context.state:
            context.checkpoint(began=clock.now().isoformat())
        provider = gateway.provider_of(node)
        self._check_time(context, node)
        if not context.state.get("ordered"):
            self._order(context, node, provider)
        self._follow(context, node, provider)
        return self._arrive(context, node, provider)

    def finished(self, operation: Operation) -> None:
        services.finish_order(operation=operation)

    def subject(self, operation: Operation) -> str:
        """Learned per machine type; an order that found everything done already teaches nothing."""
        return "" if operation.result.get("already") else str(operation.payload.get("subject", ""))

    def give(self, provider: NodeProvider, node: CloudNode, token: str) -> Started:
        raise NotImplementedError

    def is_there(self, state: InstanceState) -> bool:
        """Whether the provider's state shows that the order was given or is not needed."""
        raise NotImplementedError

    def _arrive(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> Mapping[str, Any]:
        raise NotImplementedError

    def too_late(self, node: CloudNode) -> OperationFailed:
        raise NotImplementedError

    # one step each

    def _node(self, context: RunContext) -> CloudNode:
        if services.begin_order(operation=context.operation) is None:
            raise OperationFailed(
                "The node is no more: it was deleted at the provider, or its account was disconnected.",
                code="gone",
                next_step="Nothing to do; it will not be charged.",
            )
        rows = CloudNode.objects.all_orgs().select_related("node_type", "account")
        node: CloudNode = rows.get(id=context.operation.resource_id)
        return node

    def _check_time(self, context: RunContext, node: CloudNode) -> None:
        words = provider_words(node.provider)
        allowed = words.start_seconds if self.kind == START else words.stop_seconds
        if clock.now() - datetime.fromisoformat(context.state["began"]) > timedelta(seconds=allowed):
            raise self.too_late(node)

    def _order(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> None:
        """Look, write down the intent, order, write down the answer. Resumed anywhere, it orders nothing twice."""
        label = provider_words(node.provider).label
        with Patience(context.operation, label):
            instance = self._read(context, node, provider)
        if self.is_there(instance.state):
            context.checkpoint(ordered=clock.now().isoformat(), already="token" not in context.state, blips=0)
            return
        self._wait_out(context, instance)
        context.checkpoint(token=str(context.operation.id))
        self._say(context, 0, f"Asking {label} to {self.doing} it")
        try:
            with Patience(context.operation, label):
                started = self.give(provider, node, context.state["token"])
        except CapacityUnavailable as full:
            raise self._full(node, full) from None
        except Busy as busy:
            if not busy.transient:
                raise
            self._say(context, 0, "The provider is busy with another change of it")
            raise RunAgain(WAIT_SECONDS + 1) from None
        context.checkpoint(
            ordered=clock.now().isoformat(), continuation=started.continuation, already=started.already, blips=0
        )

    def _wait_out(self, context: RunContext, instance: Instance) -> None:
        if instance.state is InstanceState.GONE:
            raise OperationFailed(
                "The provider no longer knows this node.",
                code="gone",
                next_step="Refresh the list; it may have been deleted.",
            )
        if instance.state is self.wait_out:
            self._say(context, 0, "Waiting for the change before to end")
            raise RunAgain(WAIT_SECONDS)

    def _follow(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> None:
        """Look once at the provider's own operation, where it has one; its failure undoes the order for a retry."""
        continuation = context.state.get("continuation", "")
        if not continuation:
            return
        progress = self._patiently(context, lambda: provider.check(continuation))
        if not progress.done:
            self._say(context, 1, progress.words or "The provider is working on it")
            raise RunAgain(WAIT_SECONDS)
        context.checkpoint(continuation="", **({} if progress.error is None else {"ordered": ""}))
        if isinstance(progress.error, CapacityUnavailable):
            raise self._full(node, progress.error)
        if progress.error is not None:
            raise progress.error

    def _read(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> Instance:
        """Ask the provider about this node and commit the answer."""
        at = clock.now()
        instance = self._patiently(context, lambda: provider.describe([node.provider_id])[node.provider_id])
        services.observe(node_id=node.id, instance=instance, at=at)
        return instance

    def _state(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> tuple[InstanceState, str]:
        """State and the provider's reason: from the row when the account's poll has just read it, else asked."""
        node.refresh_from_db(
            fields=["provider_state", "observed_at", "missing_since", "gone_at", "health_endpoint", "endpoint"]
        )
        ordered = datetime.fromisoformat(context.state["ordered"])
        if node.observed_at and node.observed_at > max(ordered, clock.now() - FRESH) and not node.missing_since:
            return InstanceState(node.provider_state), ""
        instance = self._read(context, node, provider)
        node.health_endpoint, node.endpoint = instance.health_endpoint, instance.endpoint
        return instance.state, instance.state_reason

    def _patiently(self, context: RunContext, ask: Callable[[], Answer]) -> Answer:
        """Reading may fail for a while without the operation failing: the node goes its way meanwhile."""
        try:
            answer = ask()
        except ProviderError as failure:
            if not failure.transient or not context.state.get("ordered"):
                raise
            blips = int(context.state.get("blips", 0)) + 1
            context.checkpoint(blips=blips)
            self._say(context, 1, f"{failure.message} Looking again.")
            pause = float(getattr(failure, "retry_after", None) or WAIT_SECONDS * 2.0 ** min(blips - 1, 4))
            raise RunAgain(min(LONGEST_WAIT_SECONDS, pause)) from None
        if context.state.get("blips"):
            context.checkpoint(blips=0)
        return answer

    def _say(self, context: RunContext, done: int, step: str) -> None:
        """Tell the pages the step, but only when it is another one: each telling makes every open page ask again."""
        operation = context.operation
        if (operation.step, operation.steps_done, operation.steps_total) != (step[:200], done, self.steps):
            context.progress(self._percent(operation), step, done=done, total=self.steps)

    @staticmethod
    def _percent(operation: Operation) -> int:
        expected = operation.expected_seconds or UNMEASURED_SECONDS
        return min(95, round(100 * operation.elapsed.total_seconds() / max(1.0, expected)))

    @classmethod
    def _full(cls, node: CloudNode, full: CapacityUnavailable) -> OperationFailed:
        """Seconds do not bring capacity, and a person can choose something else at once: not tried again by itself."""
        return OperationFailed(full.message, code=full.code, next_step=cls._elsewhere(node, full.next_step))

    @staticmethod
    def _elsewhere(node: CloudNode, otherwise: str) -> str:
        """Name other nodes of the same type that could be woken instead."""
        rows = CloudNode.objects.for_org(node.organization_id).filter(
            node_type_id=node.node_type_id, gone_at=None, managed=True, scaling="manual"
        )
        others = (
            rows.exclude(id=node.id)
            .exclude(provider=node.provider, gpu_tier=node.gpu_tier, zone=node.zone)
            .order_by("provider", "gpu_tier")
        )
        names = [f"{provider_words(o.provider).label} {o.gpu_tier.upper()}" for o in others[:3]]
        if not names:
            return otherwise
        return f"Try again in a few minutes, or wake {node.node_type.name} on {' or '.join(dict.fromkeys(names))}."


class NodeStart(NodeOrder):
    """Wakes a node and waits until its service answers."""

    kind = START
    label = "Wake cloud node"
    doing = "start"
    steps = 3
    wait_out = InstanceState.STOPPING

    def give(self, provider: NodeProvider, node: CloudNode, token: str) -> Started:
        return provider.start(node.provider_id, token=token)

    def is_there(self, state: InstanceState) -> bool:
        return state in rules.UP

    def _arrive(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> Mapping[str, Any]:
        state, reason = self._state(context, node, provider)
        if state is InstanceState.GONE:
            raise OperationFailed(
                "The node was deleted while it was starting.", code="gone", next_step="Scan the account again."
            )
        if state is not InstanceState.RUNNING:
            self._fallen_back(context, state, reason)
            self._say(context, 1, "The machine is starting")
            raise RunAgain(WAIT_SECONDS)
        if node.health_endpoint and not context.state.get("answered"):
            # None: there is nothing that may be asked, so running is all that can be known
            if self._patiently(context, lambda: provider.probe(node.health_endpoint)) is False:
                self._say(context, 2, "It runs; waiting for its service to answer")
                raise RunAgain(WAIT_SECONDS)
            context.checkpoint(answered=True)
        seconds = (clock.now() - datetime.fromisoformat(context.state["began"])).total_seconds()
        return {"already": bool(context.state.get("already")), "seconds": round(seconds, 1), "endpoint": node.endpoint}

    def _fallen_back(self, context: RunContext, state: InstanceState, reason: str) -> None:
        down = state in (InstanceState.STOPPED, InstanceState.STOPPED_BILLING)
        if down and clock.now() - datetime.fromisoformat(context.state["ordered"]) > FALL_BACK:
            raise OperationFailed(
                "The provider took the order, but the machine is down again."
                + (f" It says: {reason}" if reason else ""),
                code="start_reverted",
                next_step="Retry, or look at the machine in the provider's console.",
            )

    def too_late(self, node: CloudNode) -> OperationFailed:
        minutes = provider_words(node.provider).start_seconds // 60
        node.refresh_from_db(fields=["provider_state"])
        if node.provider_state == InstanceState.RUNNING:
            return OperationFailed(
                f"It runs, but its service did not answer within {minutes} min. It is charged.",
                code=rules.NOT_READY,
                next_step="Look at the service on it, then retry; or put it to sleep.",
            )
        return OperationFailed(
            f"It did not start within {minutes} min.",
            code="start_timeout",
            next_step="Retry, or look at the machine in the provider's console.",
        )


class NodeStop(NodeOrder):
    """Puts a node to sleep and waits until the provider says that it no longer charges for it."""

    kind = STOP
    label = "Put cloud node to sleep"
    doing = "stop"
    puts_to_sleep = True

    def give(self, provider: NodeProvider, node: CloudNode, token: str) -> Started:
        return provider.stop(node.provider_id, token=token)

    def is_there(self, state: InstanceState) -> bool:
        return state is InstanceState.STOPPED

    def _arrive(self, context: RunContext, node: CloudNode, provider: NodeProvider) -> Mapping[str, Any]:
        state, _ = self._state(context, node, provider)
        if state not in (InstanceState.STOPPED, InstanceState.GONE):
            self._say(context, 1, "The machine is stopping")
            raise RunAgain(WAIT_SECONDS)
        seconds = (clock.now() - datetime.fromisoformat(context.state["began"])).total_seconds()
        return {"already": bool(context.state.get("already")), "seconds": round(seconds, 1)}

    def too_late(self, node: CloudNode) -> OperationFailed:
        minutes = provider_words(node.provider).stop_seconds // 60
        return OperationFailed(
            f"It did not stop within {minutes} min and may still be charged.",
            code="stop_timeout",
            next_step="Retry, or stop it in the provider's console.",
        )
