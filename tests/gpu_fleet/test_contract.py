"""What every GPU provider promises, held against the fake Vast.ai over HTTP and against a real Docker engine."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import docker  # noqa: F401  imported before any server thread runs
import pytest
from moto import mock_aws

from accounts.providers.aws import AwsConnection
from accounts.providers.base import Credentials
from accounts.providers.docker import DockerConnection
from accounts.providers.gcp import GcpConnection
from core.providers import AuthenticationFailed, CapacityUnavailable, ProviderError
from gpu_fleet.providers.base import GpuProvider, Offer, Order, Query, RentalState
from gpu_fleet.providers.docker import DockerGpuProvider
from gpu_fleet.providers.ec2 import Ec2GpuProvider
from gpu_fleet.providers.gce import GceProvider
from gpu_fleet.providers.ssh import new_key
from gpu_fleet.providers.vast import VastConnection, VastProvider
from gpu_fleet.providers.vast_http import Pace, VastApi
from tests.fakes.dockerd import DockerEngine, DockerUnavailable
from tests.fakes.gce import FakeCompute
from tests.fakes.gcp import PROJECT, REGION, service_account_key
from tests.fakes.vast import Direct, FakeVast, Fate, VastWorld
from tests.fakes.vast.world import KEY

SECONDS = 90.0


class World(ABC):
    """One provider with room for machines."""

    @abstractmethod
    def provider(self) -> GpuProvider: ...

    @abstractmethod
    def vanish(self, provider_id: str) -> None:
        """Somebody else destroys it."""


class VastHttp(World):
    def __init__(self, server: FakeVast, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = server
        for n in range(6):
            server.world.add(100 + n, dph_total=0.4 + n / 10, fate=Fate(loading=0.1, running=0.3))
        monkeypatch.setattr("gpu_fleet.providers.vast._paces", {KEY: Pace(sleep=lambda s: None)})

    def provider(self) -> GpuProvider:
        credentials = Credentials("vast", "api_key", values={"api_key": KEY}, endpoints={"vast": self.server.url})
        return VastProvider(VastConnection(credentials).api)

    def vanish(self, provider_id: str) -> None:
        self.server.world._end(int(provider_id))


class Docker(World):
    def __init__(self, engine: DockerEngine) -> None:
        self.engine = engine

    def provider(self) -> GpuProvider:
        connection = DockerConnection(Credentials("docker", "local", values={"socket": self.engine.socket}))
        return DockerGpuProvider(connection, hourly=Decimal("0.4"))

    def vanish(self, provider_id: str) -> None:
        self.engine.client().api.remove_container(provider_id, force=True)


class Gce(World):
    def __init__(self, server: FakeCompute) -> None:
        self.server = server

    def provider(self) -> GpuProvider:
        values = {"service_account_json": service_account_key(), "project_id": PROJECT}
        endpoints = {"gcp_compute": self.server.url, "gcp_token": f"{self.server.url}/token"}
        connection = GcpConnection(
            Credentials("gcp", "service_account", region=REGION, values=values, endpoints=endpoints)
        )
        return GceProvider(connection, prices={"e2-standard-2": Decimal("0.067"), "e2-standard-4": Decimal("0.134")})

    def vanish(self, provider_id: str) -> None:
        zone, _, name = provider_id.partition("/")
        del self.server.instances[zone, name]


class Ec2(World):
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # an image that moto knows, in the place of Ubuntu's newest
        monkeypatch.setattr("gpu_fleet.providers.ec2.IMAGES", {"cpu": ("099720109477", "ubuntu/images/*")})

    def provider(self) -> Ec2GpuProvider:
        values = {"access_key_id": "AKIAIOSFODNN7EXAMPLE", "secret_access_key": "x" * 40, "account_id": "123456789012"}
        connection = AwsConnection(Credentials("aws", "keys", region="us-east-1", values=values))
        return Ec2GpuProvider(connection, prices={"t3.medium": Decimal("0.0416"), "t3.small": Decimal("0.0208")})

    def vanish(self, provider_id: str) -> None:
        self.provider().destroy([provider_id])


@pytest.fixture(params=["vast", "gce", "ec2", pytest.param("docker", marks=[pytest.mark.docker, pytest.mark.slow])])
def world(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    if request.param == "vast":
        with FakeVast() as server:
            yield VastHttp(server, monkeypatch)
        return
    if request.param == "gce":
        with FakeCompute() as compute:
            yield Gce(compute)
        return
    if request.param == "ec2":
        with mock_aws():
            yield Ec2(monkeypatch)
        return
    try:
        with DockerEngine() as engine:
            made = Docker(engine)
            yield made
            provider = made.provider()
            provider.destroy([r.provider_id for r in provider.everything()])
    except DockerUnavailable as why:
        pytest.skip(str(why))


def order(offer: Offer, label: str) -> Order:
    environment = {"CURFEW_URL": "http://127.0.0.1:9", "CURFEW_TOKEN": "x", "CURFEW_AUTHORIZED_KEY": new_key("t")[1]}
    return Order(offer, label, "", 8, env=environment)


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.1)
    raise AssertionError("it never came about")


@pytest.mark.integration
def test_a_rental_from_offer_to_absence(world: World) -> None:
    provider = world.provider()
    assert isinstance(provider, GpuProvider)
    offers = provider.offers(Query(disk_gb=8))
    assert len({o.host_id for o in offers}) == len(offers) >= 2
    known = [o.hourly for o in offers if o.hourly is not None]
    assert known == sorted(known)
    assert [o.hourly for o in offers[: len(known)]] == known  # what has no price comes last
    label = f"curfew-contract-{time.monotonic_ns()}-r1"
    answers = provider.rent([order(o, label) for o in offers[:2]])
    assert [a.offer_id for a in answers] == [o.offer_id for o in offers[:2]]
    found = provider.find({label})
    assert {r.host_id for r in found} == {o.host_id for o in offers[:2]}
    assert {a.provider_id for a in answers if a.provider_id} <= {r.provider_id for r in found}
    ids = [r.provider_id for r in found]
    running = until(lambda: _all(provider, ids, RentalState.RUNNING))
    assert all(r.ssh_host and r.ssh_port for r in running.values())
    world.vanish(ids[0])
    assert world.provider().describe([ids[0]])[ids[0]].state is RentalState.GONE
    assert provider.describe(ids)[ids[1]].state is RentalState.RUNNING  # in a list as well
    assert provider.destroy(ids) == dict.fromkeys(ids)
    until(lambda: _all(provider, ids, RentalState.GONE))
    assert provider.destroy(ids[:1]) == {ids[0]: None}
    assert provider.find({label}) == []


def _all(provider: GpuProvider, ids: list[str], state: RentalState) -> Any:
    found = provider.describe(ids)
    return found if all(rental.state is state for rental in found.values()) else None


def vast(**facts: Any) -> tuple[VastWorld, VastProvider, list[float]]:
    now = [0.0]
    world = VastWorld(lambda: now[0])
    pace = Pace(clock=lambda: now[0], sleep=lambda s: now.__setitem__(0, now[0] + s))
    return world, VastProvider(VastApi(facts.get("key", KEY), Direct(world), pace)), now


def test_five_at_once_within_the_limits_and_thirty_rows_over_pages() -> None:
    world, provider, now = vast()
    for n in range(40):
        world.add(n + 1)
    began = now[0]
    provider.rent([order(o, "curfew-five-r1") for o in provider.offers(Query())[:5]])
    assert now[0] - began <= 6
    provider.rent([order(o, "curfew-more-r1") for o in provider.offers(Query())[:30]])
    assert len(provider.find({"curfew-more-r1"})) == 30
    assert (world.refused, len(provider.everything())) == (0, 35)


@pytest.mark.parametrize("fault", ["500_after", "hang"])
def test_an_open_outcome_is_told_as_open_and_not_repeated(fault: str) -> None:
    world, provider, _ = vast()
    world.add(1)
    world.faults["create"] = [fault]
    (answer,) = provider.rent([order(provider.offers(Query())[0], "curfew-a-r1")])
    assert (answer.provider_id, answer.unsure) == ("", True)
    assert world.calls["create"] == 1
    assert [r.label for r in provider.find({"curfew-a-r1"})] == ["curfew-a-r1"]


def test_plain_text_429_is_waited_out_and_a_refusal_may_still_bill() -> None:
    world, provider, now = vast()
    world.add(1)
    world.faults["create"] = ["429"]
    offer = provider.offers(Query())[0]
    (answer,) = provider.rent([order(offer, "curfew-b-r1")])
    assert answer.provider_id
    assert now[0] >= 12
    world.add(2)
    world.contract_on_error = 1
    (billed,) = provider.rent([order(Offer("2", "20", "x", 1, 1, None), "curfew-c-r1")])
    assert billed.error is not None
    assert billed.provider_id
    (never,) = provider.rent([order(Offer("999", "9", "x", 1, 1, None), "curfew-d-r1")])
    assert (never.provider_id, never.unsure, never.error is not None) == ("", False, True)


def test_absence_is_proven_by_an_answer_and_never_by_a_failure() -> None:
    world, provider, _ = vast()
    world.add(1)
    (made,) = provider.rent([order(provider.offers(Query())[0], "curfew-e-r1")])
    for fault in ("html", "500"):
        world.faults["show"] = [fault] * 4
        with pytest.raises(ProviderError):
            provider.describe([made.provider_id])
        world.faults["show"] = []
    _, stranger, _ = vast(key="wrong")
    with pytest.raises(AuthenticationFailed):
        stranger.describe([made.provider_id])
    assert isinstance(stranger.destroy([made.provider_id])[made.provider_id], AuthenticationFailed)


def test_google_without_room_makes_nothing_and_says_so() -> None:
    with FakeCompute() as server:
        provider = Gce(server).provider()
        offer = provider.offers(Query(disk_gb=10))[0]
        server.failure = ("ZONE_RESOURCE_POOL_EXHAUSTED", "The zone does not have enough resources available.")
        (answer,) = provider.rent([order(offer, "curfew-gce-r1")])
        assert (answer.provider_id, type(answer.error)) == ("", CapacityUnavailable)
        assert provider.everything() == []
        (first,) = provider.rent([order(offer, "curfew-gce-r2")])
        (again,) = provider.rent([order(offer, "curfew-gce-r2")])  # a repeat finds what the first one made
        assert first.provider_id == again.provider_id != ""
        assert len(server.instances) == 1
        provider.stop(first.provider_id)
        until(lambda: provider.describe([first.provider_id])[first.provider_id].state is RentalState.STOPPED)
        provider.start(first.provider_id)
        assert provider.describe([first.provider_id])[first.provider_id].state is RentalState.RUNNING


def test_ec2_spot_and_repeats_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    with mock_aws():
        provider = Ec2(monkeypatch).provider()
        gpus = provider.offers(Query(min_gpus=1, gpu_name="T4"))
        assert {o.gpu_name for o in gpus} == {"Tesla T4"}
        assert all(o.hourly is None for o in gpus)  # the price book of this test knows no GPU: unknown, not zero
        assert provider.offers(Query(min_gpus=1, max_hourly=Decimal(1))) == []
        spot = provider.offers(Query(interruptible=True))[0]
        (one,) = provider.rent([order(spot, "curfew-spot-r1")])
        raw = provider._client().describe_instances(InstanceIds=[one.provider_id])["Reservations"][0]["Instances"][0]
        assert raw["InstanceLifecycle"] == "spot"
        plain = provider.offers(Query())[0]
        (first,) = provider.rent([order(plain, "curfew-twice-r1")])
        (again,) = provider.rent([order(plain, "curfew-twice-r1")])
        assert len({r.provider_id for r in provider.find({"curfew-twice-r1"})} | {again.provider_id}) <= 2
        provider.stop(first.provider_id)
        until(lambda: provider.describe([first.provider_id])[first.provider_id].state is RentalState.STOPPED)
        provider.start(first.provider_id)
        until(lambda: provider.describe([first.provider_id])[first.provider_id].state is RentalState.RUNNING)
