"""A worker that dies at any step of a change: its successor ends it, and the way back is what was there at first."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from clusters.models import Cluster
from core import clock
from operations import runner
from operations.models import Operation
from policies.rightsizing import executors, services
from policies.rightsizing.enums import Outcome
from policies.rightsizing.models import SizeChange
from tests.policies.rightsizing.conftest import GIB, MIB, row, size
from tests.policies.rightsizing.kube import SHOP, RollingKube, box, deployment

pytestmark = [pytest.mark.integration, pytest.mark.django_db]
LARGE = {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "4Gi"}}


class Killed(BaseException):
    """Nothing in the worker catches it, as nothing catches SIGKILL."""


@pytest.mark.parametrize("harm", [False, True])
@pytest.mark.parametrize("point", ["begin_change", "put", "end_change"])
def test_a_successor_ends_what_was_begun(
    point: str,
    harm: bool,
    cluster: Cluster,
    kube: RollingKube,
    govern: Any,
    report: Any,
    work: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kube.create(deployment("web", box(**LARGE)))
    govern()
    report(row(cluster, f"{SHOP}/Deployment/web", app=(size(2000, 250), size(4 * GIB, 1024 * MIB))))
    if harm:
        kube.broken = lambda template: "OOMKilled" if template["containers"][0]["resources"] != LARGE else ""
    assert services.apply_due() == 1
    place: Any = executors._Sizer if point == "put" else services
    original, deaths = getattr(place, point), []

    def dying(*args: Any, **more: Any) -> Any:
        done = original(*args, **more)
        if not deaths:
            deaths.append(point)
            raise Killed
        return done

    monkeypatch.setattr(place, point, dying)
    with pytest.raises(Killed):
        work()
    assert deaths == [point]
    Operation.objects.all_orgs().update(lease_expires_at=clock.now() - timedelta(seconds=1))
    assert runner.reap_expired() == 1
    work()
    change = SizeChange.objects.all_orgs().get()
    assert change.before == {"app": LARGE}
    assert change.outcome == (Outcome.ROLLED_BACK if harm else Outcome.KEPT)
    wanted = LARGE if harm else {"requests": {"cpu": "250m", "memory": "1024Mi"}, "limits": {"memory": "1024Mi"}}
    assert kube.resources("web") == {"app": wanted}
