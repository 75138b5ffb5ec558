"""What only Cloud Run does."""

from __future__ import annotations

import pytest

from cloudnodes.providers.base import NodeProvider, Scaling, node_type_slug
from core.providers import (
    BadAnswer,
    CapacityUnavailable,
    Conflict,
    InvalidRequest,
    PermissionDenied,
    ProviderError,
    QuotaExceeded,
    Throttled,
    Unreachable,
)
from tests.contract.worlds import (
    RUNNING,
    STOPPED,
    CloudRunWorld,
    follow,
    wait_for,
)
from tests.fakes.gcp import PARENT, FakeCloudRun, google_error
from tests.fakes.server import HTML, Answer

pytestmark = pytest.mark.integration


class TestCloudRun:
    """What only Cloud Run does."""

    @pytest.fixture
    def provider(self, cloud_run: FakeCloudRun) -> NodeProvider:
        return CloudRunWorld(cloud_run).provider()

    def test_a_service_that_scales_to_zero_is_left_alone(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("auto", labels={"curfew-node-type": "flux-dev"})
        instance = provider.describe([node])[node]
        assert (instance.scaling, instance.state, instance.node_type, instance.labels_source) == (
            Scaling.TO_ZERO,
            RUNNING,
            "flux-dev",
            "labels",
        )
        assert node_type_slug("FLUX Dev") == node_type_slug(instance.node_type)
        for order in (provider.start, provider.stop):
            assert order(node, token="op-1").already
        assert cloud_run.patches == []

    @pytest.mark.parametrize(("manual", "minimum", "mode"), [(3, 0, "MANUAL"), (None, 2, "AUTOMATIC")])
    def test_waking_restores_what_was_before(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, manual: int | None, minimum: int, mode: str
    ) -> None:
        node = cloud_run.add("node", manual=manual, minimum=minimum, annotations={"team": "renders"})
        before = str(cloud_run.services[node].scaling)
        follow(provider, provider.stop(node, token="op-1").continuation)
        wait_for(provider, node, STOPPED)
        paths, body = cloud_run.patches[-1]
        assert paths == ["annotations", "scaling.manual_instance_count", "scaling.scaling_mode"], "never the template"
        assert "curfew.scaling-before-sleep" in body["annotations"], "the snapshot travels with the change"
        follow(provider, provider.start(node, token="op-2").continuation)
        wait_for(provider, node, RUNNING)
        after = cloud_run.services[node]
        assert str(after.scaling) == before
        assert after.scaling.scaling_mode.name == mode
        assert dict(after.annotations) == {"run.googleapis.com/ingress": "all", "team": "renders"}

    def test_a_start_without_a_memory_gives_one_instance(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("node", manual=0)
        follow(provider, provider.start(node, token="op-1").continuation)
        assert cloud_run.services[node].scaling.manual_instance_count == 1

    def test_a_change_by_somebody_else_is_a_conflict(self, cloud_run: FakeCloudRun, provider: NodeProvider) -> None:
        node = cloud_run.add("node", manual=1)
        cloud_run.fail("PATCH", google_error(409, "ABORTED", "Conflict for resource: the etag does not match."))
        with pytest.raises(Conflict):
            provider.stop(node, token="op-1")

    @pytest.mark.parametrize(
        ("failure", "kind"),
        [
            (
                (8, "ZONE_RESOURCE_POOL_EXHAUSTED: The zone does not have enough resources available."),
                CapacityUnavailable,
            ),
            ((8, "Quota exceeded for total allowable count of GPUs per project per region."), QuotaExceeded),
            ((7, "Permission 'run.services.update' denied."), PermissionDenied),
            ((13, "Internal error."), Unreachable),
            ((3, "Revision is not ready."), InvalidRequest),
        ],
        ids=["stockout", "quota", "role", "fault", "invalid"],
    )
    def test_a_start_that_fails_late(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, failure: tuple[int, str], kind: type[ProviderError]
    ) -> None:
        node = cloud_run.add("node", manual=0)
        cloud_run.late_failure = failure
        error = follow(provider, provider.start(node, token="op-1").continuation)
        assert type(error) is kind
        assert error is not None
        assert failure[1] in error.detail

    @pytest.mark.parametrize(
        ("answer", "kind"),
        [
            (
                google_error(
                    429,
                    "RESOURCE_EXHAUSTED",
                    "Quota exceeded for quota metric 'Write requests' and limit 'per minute per region'.",
                ),
                Throttled,
            ),
            (google_error(503, "UNAVAILABLE", "ZONE_RESOURCE_POOL_EXHAUSTED"), CapacityUnavailable),
            (google_error(503, "UNAVAILABLE", "The service is currently unavailable."), Unreachable),
            (google_error(403, "PERMISSION_DENIED", "Permission 'run.services.update' denied"), PermissionDenied),
            (google_error(400, "INVALID_ARGUMENT", "scaling: bad"), InvalidRequest),
            (Answer(200, HTML, kind="text/html"), BadAnswer),
            (Answer(200, '{"name": "projects', kind="application/json"), BadAnswer),
        ],
        ids=["throttle", "stockout", "fault", "role", "invalid", "html", "half"],
    )
    def test_a_start_that_is_refused(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, answer: Answer, kind: type[ProviderError]
    ) -> None:
        node = cloud_run.add("node", manual=0)
        cloud_run.fail("PATCH", answer)
        with pytest.raises(ProviderError) as caught:
            provider.start(node, token="op-1")
        assert type(caught.value) is kind
        assert len(cloud_run.requests("PATCH")) == 1, "no hidden retries"

    def test_an_empty_answer_does_not_make_services_vanish(
        self, cloud_run: FakeCloudRun, provider: NodeProvider
    ) -> None:
        nodes = [cloud_run.add(f"node-{n}", manual=0) for n in range(5)]
        cloud_run.fail(f"GET /v2/{PARENT}/services", Answer(200, {}))
        assert {i.state for i in provider.describe(nodes).values()} == {STOPPED}

    @pytest.mark.parametrize(
        "continuation", ["projects/other/locations/us-central1/operations/1", "operations/1", "../../x"]
    )
    def test_operations_of_others_are_not_asked_for(
        self, cloud_run: FakeCloudRun, provider: NodeProvider, continuation: str
    ) -> None:
        with pytest.raises(InvalidRequest):
            provider.check(continuation)
        assert cloud_run.log == []
