"""The demo: the same story each time, told by the ordinary services, and labelled as simulated."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest
from django.core.management import call_command
from django.test import Client

from accounts import selectors as accounts
from accounts.models import Membership, Organization, User
from audit import verification as audit
from audit.models import AuditEntry
from cloudnodes import services
from cloudnodes.models import CloudNode
from cloudnodes.providers.base import Instance, InstanceState
from core import clock
from core.errors import InvalidInput, InvalidState
from costs import selectors as costs
from costs.models import CatalogPrice
from dashboard.demo import gpu, gpu_history, history, people, schedules
from gpu_fleet import services as fleet
from gpu_fleet.models import Machine, Rental, Snapshot
from gpu_fleet.providers import docker_image
from gpu_fleet.selectors.pages import get_savings
from hibernation.models import Schedule
from operations.models import Operation
from tests.personas import PASSWORD, Persona, make_account

END = datetime(2026, 11, 21, 9, tzinfo=UTC)
START = END - timedelta(days=30)


class TestPlan:
    nodes = [(UUID(int=n), tier) for n, tier in enumerate(["t4", "a10g", "a100", "t4", "a10g"])]

    def test_it_is_the_same_each_time(self) -> None:
        assert history.plan(self.nodes, START, END, 3) == history.plan(self.nodes, START, END, 3)
        assert history.plan(self.nodes, START, END, 3) != history.plan(self.nodes, START, END, 3, seed=1)

    @pytest.mark.parametrize("seed", range(25))
    def test_sessions_of_a_node_do_not_overlap_and_stay_inside(self, seed: int) -> None:
        sessions = history.plan(self.nodes, START, END, 3, seed=seed)
        assert len(sessions) > 40
        for node_id, _ in self.nodes:
            mine = [s for s in sessions if s.node_id == node_id]
            for before, after in pairwise(mine):
                assert before.sleep + history.GAP <= after.wake
            assert all(START < s.wake < s.sleep <= END - history.QUIET_AT_THE_END for s in mine)
            assert all(0 <= s.waker < 3 and 0 <= s.sleeper < 3 for s in mine)


def instance(name: str, machine: str, tier: str) -> Instance:
    return Instance(
        provider_id=f"i-{name}",
        name=name,
        region="us-east-1",
        zone="us-east-1a",
        instance_type=machine,
        state=InstanceState.STOPPED,
        node_type="FLUX Dev",
        gpu_tier=tier,
        tags={"curfew:node-type": "FLUX Dev"},
        labels_source="tags",
    )


@pytest.fixture
def played(alice: Persona, olga: Persona) -> int:
    """Two nodes found thirty days ago, and what the two people did with them since."""
    account = make_account(alice.organization, is_sandbox=True)
    found = [instance("flux-t4", "g4dn.xlarge", "t4"), instance("flux-a10g", "g5.xlarge", "a10g")]
    with clock.at(START - timedelta(minutes=5)):
        services.sync_discovered(account=account, instances=found)
    nodes = list(CloudNode.objects.for_org(alice.organization).order_by("instance_name"))
    return history.play(
        nodes=nodes,
        instances={i.provider_id: i for i in found},
        people=[alice.actor, olga.actor],
        owner=alice.actor,
        end=END,
    )


@pytest.mark.django_db(transaction=True)
class TestPlay:
    def test_everything_has_ended_and_says_what_it_is(self, alice: Persona, played: int, sent_tasks: list) -> None:
        rows = Operation.objects.for_org(alice.organization)
        assert rows.count() == played > 60
        assert set(rows.values_list("reason", flat=True)) == {history.REASON}
        assert set(rows.values_list("status", flat=True)) <= {"succeeded", "failed"}
        assert {n.observed_state for n in CloudNode.objects.for_org(alice.organization)} == {"asleep"}
        assert history.happened(alice.organization.id)
        assert [name for name, _ in sent_tasks if name == "operations.run"] == []
        assert rows.filter(created_at__gt=END).count() == 0

    def test_some_nodes_keep_studio_hours(self, alice: Persona, played: int, monkeypatch: pytest.MonkeyPatch) -> None:
        first, *_ = CloudNode.objects.for_org(alice.organization).order_by("instance_name")
        monkeypatch.setattr(schedules, "FOLLOWS", (first.instance_name,))
        for _ in range(2):
            schedules.make(alice.actor, "America/Los_Angeles")
        (schedule,) = Schedule.objects.for_org(alice.organization)
        assert [row.resource_id for row in schedule.assignments.all()] == [first.id]
        assert sum(row.count("1") for row in schedule.grid) == 50

    def test_the_money_is_the_plans(self, alice: Persona, played: int) -> None:
        with clock.at(END):
            sums = costs.sums_between(alice.actor, START - timedelta(hours=1), END)
        nodes = {n.id: n for n in CloudNode.objects.for_org(alice.organization).order_by("instance_name")}
        sessions = history.plan([(n.id, n.gpu_tier) for n in nodes.values()], START, END, 2)
        price = {node.id: node.hourly_cost for node in nodes.values()}
        planned = sum(
            (price[s.node_id] * Decimal((s.sleep - s.wake).total_seconds()) / 3600 for s in sessions), Decimal(0)
        )
        assert sums.unpriced == 0
        assert sums.spent == pytest.approx(planned, rel=Decimal("0.01"))  # starts take a minute, stops half of one
        assert {"hand"} <= sums.by_cause.keys() <= {"hand", "outside"}

    def test_the_chain_holds_and_names_people(self, alice: Persona, played: int) -> None:
        verdict = audit.verify_chain(organization_id=alice.organization.id)
        assert verdict.ok, verdict.reason
        asked = AuditEntry.objects.for_org(alice.organization).filter(verb="node.wake_requested")
        assert set(asked.values_list("actor_label", flat=True)) == {"Alice", "Olga"}
        assert AuditEntry.objects.for_org(alice.organization).filter(verb="budget.changed").count() == 2

    def test_countdowns_are_learned_from_it(self, alice: Persona, played: int) -> None:
        from operations import services as operations

        seconds = operations.expected_seconds("node.start", "aws/g4dn.xlarge")
        assert seconds is not None
        assert 15 < seconds < 120


@pytest.mark.django_db(transaction=True)
class TestCommand:
    @pytest.fixture(autouse=True)
    def _folder(self, settings: object, tmp_path: Path) -> None:
        settings.CURFEW_DATA = tmp_path
        settings.CURFEW_SANDBOX_AWS_ENDPOINT = ""
        settings.CURFEW_DOCKER_HOST = f"unix://{tmp_path}/none.sock"

    def run(self, *arguments: str) -> str:
        out = StringIO()
        call_command("seed_demo", *arguments, stdout=out)
        return out.getvalue()

    def test_people_of_each_role_and_one_password(self, tmp_path: Path) -> None:
        facts = json.loads(self.run("--json"))
        assert (facts["organization"], facts["sandbox"], facts["docker"]) == ("Larkspur Studio", False, False)
        organization = Organization.objects.get(name="Larkspur Studio")
        assert organization.is_sandbox
        roles = {m.user.email: m.role for m in Membership.objects.for_org(organization).select_related("user")}
        assert roles == {one["email"]: one["role"] for one in facts["people"]}
        assert sorted(roles.values()) == ["admin", "operator", "owner", "viewer"]
        for email in roles:
            assert User.objects.get(email=email).check_password(facts["password"])
        assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600
        assert len(facts["password"]) >= 20

    def test_the_second_run_adds_nothing(self) -> None:
        first = json.loads(self.run("--json"))
        counts = User.objects.count(), Organization.objects.count(), AuditEntry.objects.all_orgs().count()
        second = json.loads(self.run("--json"))
        assert second["password"] == first["password"]
        assert (User.objects.count(), Organization.objects.count(), AuditEntry.objects.all_orgs().count()) == counts

    def test_a_changed_password_is_left_alone(self) -> None:
        self.run()
        user = User.objects.get(email="owner@larkspur.example")
        user.set_password(PASSWORD)
        user.save()
        self.run()
        assert User.objects.get(email="owner@larkspur.example").check_password(PASSWORD)

    @pytest.mark.parametrize("content", ["", "{", "[]", '{"password": ""}', '{"password": 7}'])
    def test_a_spoilt_file_is_written_anew(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "demo.json").write_text(content)
        password = people.password_of(tmp_path)
        assert json.loads((tmp_path / "demo.json").read_text())["password"] == password
        assert stat.S_IMODE((tmp_path / "demo.json").stat().st_mode) == 0o600

    def test_nobody_meets_the_wizard(self) -> None:
        self.run()
        for one in people.PEOPLE:
            caller = accounts.caller_for(User.objects.get(email=one.email))
            assert caller is not None
            assert not accounts.needs_wizard(caller)

    def test_the_lines_name_the_logins(self) -> None:
        text = self.run()
        for one in people.PEOPLE:
            assert one.email in text
        assert "simulated" in text


@pytest.mark.django_db
def test_a_gpu_machine_is_asked_for_once_where_there_is_an_engine(
    alice: Persona, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_image, "missing_programs", list)
    assert gpu.deploy(alice.actor) is None  # there is no engine
    make_account(alice.organization, provider="docker", number="here", method="local", region="")
    monkeypatch.setattr(docker_image, "missing_programs", lambda: ["restic"])
    assert gpu.deploy(alice.actor) is None
    monkeypatch.setattr(docker_image, "missing_programs", list)
    made = gpu.deploy(alice.actor)
    assert made is not None
    assert (made.provider, made.wanted["strategy"]) == ("docker", "race")
    assert Operation.objects.for_org(alice.organization).get(resource_id=made.id).status == "queued"
    assert gpu.deploy(alice.actor) is None


@pytest.mark.docker
@pytest.mark.django_db(transaction=True)
def test_a_local_container_without_a_pull(alice: Persona, settings: object) -> None:
    """On a real engine: the container exists, sleeps, and is connected once however often it is asked for."""
    import docker
    from docker.errors import DockerException

    from dashboard.demo import clouds

    try:
        client = docker.APIClient(base_url=settings.CURFEW_DOCKER_HOST, version="auto", timeout=5)
    except DockerException as silent:
        pytest.skip(f"no Docker engine: {silent}")
    try:
        before = {image["Id"] for image in client.images()}
        assert clouds.connect_docker(alice.organization, settings.CURFEW_DOCKER_HOST)
        assert clouds.connect_docker(alice.organization, settings.CURFEW_DOCKER_HOST)
        state = client.inspect_container(clouds.CONTAINER)
        assert state["Config"]["Labels"] == clouds.LABELS
        assert len({image["Id"] for image in client.images()} - before) <= 1
        client.start(clouds.CONTAINER)
        assert client.inspect_container(clouds.CONTAINER)["State"]["Running"]
        client.stop(clouds.CONTAINER, timeout=1)
    finally:
        client.close()


def test_no_engine_is_no_container(tmp_path: Path) -> None:
    from dashboard.demo import clouds

    organization = Organization(name="Larkspur")
    for address in ("", "tcp://127.0.0.1:1", f"unix://{tmp_path}/none.sock"):
        assert clouds.connect_docker(organization, address) is False


class TestGpuMonth:
    """The month of rented machines: played once, told to be simulated, and every dollar from intervals."""

    @pytest.fixture
    def month(self, alice: Persona, olga: Persona) -> int:
        for kind, hourly in (
            ("g4dn.xlarge", "0.526"),
            ("g5.xlarge", "1.006"),
            ("g6.xlarge", "0.805"),
            ("p3.2xlarge", "3.06"),
        ):
            CatalogPrice.objects.update_or_create(
                provider="aws", region="us-east-1", instance_type=kind, as_of=START.date(),
                defaults={"hourly": Decimal(hourly), "source": "test"},
            )  # fmt: skip
        self.account = make_account(alice.organization, is_sandbox=True, region="us-east-1")
        return gpu_history.play(account=self.account, owner=alice.actor, people=[alice.actor, olga.actor], end=END)

    @pytest.mark.django_db(transaction=True)
    def test_pages_tell_it_and_nothing_is_left_awake(
        self, alice: Persona, month: int, client: Client, monkeypatch: pytest.MonkeyPatch, sent_tasks: list
    ) -> None:
        monkeypatch.setattr(clock, "now", lambda: END)
        rows = Operation.objects.for_org(alice.organization)
        assert rows.count() == month > 35
        assert set(rows.values_list("status", flat=True)) == {"succeeded"}
        assert rows.filter(created_at__gt=END).count() == 0
        assert [name for name, _ in sent_tasks if name == "operations.run"] == []
        machines = {m.name: m for m in Machine.objects.for_org(alice.organization)}
        assert {m.observed_state for m in machines.values() if m.gone_at is None} == {"asleep"}
        assert (machines["basalt"].gone_at is not None, len(machines)) == (True, 3)
        assert set(Rental.objects.for_org(alice.organization).values_list("lane", flat=True)) == {"gone"}
        found = get_savings(actor=alice.actor)
        assert found.unpriced == 0
        assert 50 < found.spent < 600
        assert found.saved > found.spent
        assert 0 < found.lost_races < found.spent / 20
        parts = sum((spent for _, spent, _ in found.by_machine), found.lost_races)
        assert found.spent == pytest.approx(parts, abs=Decimal("0.000001"))
        assert sum(bool(spent) for _, spent, _ in found.days) > 12
        kept = Snapshot.objects.for_org(alice.organization).filter(machine=machines["aurora"], state="verified")
        assert kept.count() == gpu_history.KEPT
        client.force_login(alice.user)
        page = client.get(machines["aurora"].get_absolute_url()).content.decode()
        assert "simulated history" in page
        assert 'id="machine-load-data"' in page
        assert "hx-morph-skip-children data-chart=" in page  # a live update leaves the drawn chart where it is
        assert "Verify" not in page
        for address, words in (
            ("/gpu-fleet/", "drift"),
            ("/gpu-fleet/savings", "basalt"),
            ("/gpu-fleet/snapshots", "aurora"),
            ("/gpu-fleet/market", "A10G"),
        ):
            assert words in client.get(address).content.decode(), address
        verdict = audit.verify_chain(organization_id=alice.organization.id)
        assert verdict.ok, verdict.reason

    @pytest.mark.django_db(transaction=True)
    def test_it_is_played_once_and_nobody_is_promised_more(self, alice: Persona, month: int) -> None:
        again = gpu_history.play(account=self.account, owner=alice.actor, people=[alice.actor], end=END)
        assert again == 0
        drift = Machine.objects.for_org(alice.organization).get(name="drift")
        with pytest.raises(InvalidState, match="simulated history"):
            fleet.request_wake(actor=alice.actor, machine_id=drift.id)
        snapshot = drift.snapshots.for_org(alice.organization).filter(state="verified").first()
        with pytest.raises(InvalidState, match="simulated history"):
            fleet.verify_again(actor=alice.actor, snapshot_id=snapshot.id)
        assert fleet.apply_retention(machine=drift) == 0
        with pytest.raises(InvalidInput, match="another look"):  # only while the story is told
            fleet.create_machine(actor=alice.actor, name="x", account_id=self.account.id, wanted={})
        operation = fleet.request_destroy(actor=alice.actor, machine_id=drift.id, name="drift")
        assert operation.kind == "gpu.destroy"

    @pytest.mark.parametrize("seed", range(15))
    def test_sessions_of_a_machine_follow_each_other(self, seed: int) -> None:
        sessions = gpu_history.plan(START, END, 3, seed=seed)
        for habit in gpu_history.HABITS:
            mine = [s for s in sessions if s.habit == habit]
            assert mine
            assert all(a.sleep + timedelta(minutes=10) < b.wake for a, b in pairwise(mine))
            assert all(START < s.wake < s.sleep < END for s in mine)
