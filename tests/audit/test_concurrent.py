"""Many writers and several sealers at once: one chain, no fork, nothing lost."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from django.db import connection

from audit import verification
from audit.models import AuditEntry, AuditPending, AuditSeal
from audit.services import record_alone, seal_all
from tests.personas import make_organization, make_person

WRITERS, EACH, SEALERS = 12, 20, 3


def together(jobs: list[Callable[[], None]]) -> list[BaseException]:
    """Run them in threads, each with its own connection; what they raised."""
    failed: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:
            failed.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return failed


@pytest.mark.pg
@pytest.mark.django_db(transaction=True)
def test_writers_and_sealers_make_one_chain() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("the tests' SQLite lies in memory, which threads cannot share")
    actor = make_person("alice", make_organization("Larkspur"), "owner").actor
    assert actor.org_id is not None
    left = [WRITERS]
    lock = threading.Lock()

    def write() -> None:
        try:
            for number in range(EACH):
                record_alone(actor=actor, verb="access.denied", target_kind="page", target_id=str(number))
        finally:
            with lock:
                left[0] -= 1

    def keep_sealing() -> None:
        while left[0]:
            seal_all()

    assert together([write] * WRITERS + [keep_sealing] * SEALERS) == []
    while seal_all():
        pass
    verdict = verification.verify_chain(organization_id=actor.org_id)
    assert (verdict.ok, verdict.checked) == (True, WRITERS * EACH), verdict
    assert AuditEntry.objects.for_org(actor.org_id).count() == AuditSeal.objects.for_org(actor.org_id).count()
    assert not AuditPending.objects.for_org(actor.org_id).exists()
