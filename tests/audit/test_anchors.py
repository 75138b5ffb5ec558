"""Anchors beyond this machine: signed, in order, sent until confirmed; what they remember shows a cut chain."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audit import anchor_places, anchors, services, verification
from tests.audit.test_append_only import cut, tamper, write
from tests.fakes.s3 import moto_server
from tests.notifications.test_ssrf import Server
from tests.personas import Persona

pytestmark = pytest.mark.django_db
LOCKED = "locked-anchors"


@pytest.fixture(autouse=True)
def local_network(settings: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = ["127.0.0.1/32"]


@pytest.fixture
def checkpoint(django_capture_on_commit_callbacks: Any) -> Any:
    def make(persona: Persona, lines: int = 3) -> None:
        write(persona, lines)
        with django_capture_on_commit_callbacks(execute=True):
            services.make_checkpoint(organization_id=persona.organization.id)

    return make


def test_a_webhook_gets_each_checkpoint_in_order_until_it_confirms(
    alice: Persona, settings: Any, checkpoint: Any
) -> None:
    with Server(503) as server:
        settings.CURFEW_AUDIT_ANCHOR_WEBHOOK = f"{server.url}/heads"
        settings.CURFEW_AUDIT_ANCHOR_WEBHOOK_SECRET = "shared"
        checkpoint(alice)
        (place,) = anchor_places.progress(alice.organization.id)
        assert (place.line, place.error) == (0, "It answered 503.")
        server.status = 204
        checkpoint(alice, 2)
        sent = [json.loads(body) for _, _, body in server.got]
        assert [one["line"] for one in sent] == [3, 3, 5]
        (place,) = anchor_places.progress(alice.organization.id)
        assert (place.line, place.error) == (5, "")
        for _, headers, body in server.got:
            parts = dict(p.split("=", 1) for p in headers["Curfew-Signature"].split(","))
            assert parts["v1"] == hmac.new(b"shared", f"{parts['t']}.".encode() + body, hashlib.sha256).hexdigest()
        assert anchors.Anchor(**{k: v for k, v in sent[-1].items() if k != "kind"}).is_signed()
        checkpoint(alice, 0)
        assert len(server.got) == 3


def test_a_webhook_inside_our_network_is_refused(alice: Persona, settings: Any, checkpoint: Any) -> None:
    settings.CURFEW_OUTBOUND_NETWORKS = []
    settings.CURFEW_AUDIT_ANCHOR_WEBHOOK = "http://169.254.169.254/latest"
    checkpoint(alice)
    assert "metadata" in anchor_places.progress(alice.organization.id)[0].error


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    boto3 = pytest.importorskip("boto3")
    keys = {"region_name": "eu-west-1", "aws_access_key_id": "AK", "aws_secret_access_key": "SK"}
    with moto_server() as url:
        client = boto3.client("s3", endpoint_url=url, **keys)
        client.create_bucket(
            Bucket=LOCKED,
            ObjectLockEnabledForBucket=True,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-1"},
        )
        yield client


def test_a_locked_bucket_remembers_what_the_database_and_the_folder_forgot(
    alice: Persona, settings: Any, checkpoint: Any, s3: Any, anchors_of_this_test: Path
) -> None:
    settings.CURFEW_AUDIT_ANCHOR_BUCKET = (
        f"s3://{LOCKED}/heads?region=eu-west-1&lock_days=30&endpoint={s3.meta.endpoint_url}"
    )
    settings.CURFEW_AUDIT_ANCHOR_BUCKET_KEY = "AK:SK"
    for _ in range(3):
        checkpoint(alice, 2)
    org = alice.organization.id
    assert [a.line for a in anchor_places.read_back(org)[0]] == [6, 4, 2]
    version = s3.list_object_versions(Bucket=LOCKED, Prefix=f"heads/{org}/")["Versions"][0]
    assert s3.head_object(Bucket=LOCKED, Key=version["Key"])["ObjectLockMode"] == "COMPLIANCE"
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.delete_object(Bucket=LOCKED, Key=version["Key"], VersionId=version["VersionId"])
    for path in anchors_of_this_test.iterdir():
        path.unlink()
    assert verification.verify_chain(organization_id=org).anchored == 6
    cut(alice, 5)
    tamper("DELETE FROM audit_auditcheckpoint")
    verdict = verification.verify_chain(organization_id=org)
    assert (verdict.ok, verdict.reason) == (False, "the chain ends at line 5 but an anchor says 6")
    tamper("DELETE FROM audit_auditentry")
    tamper("DELETE FROM audit_auditseal")
    tamper("DELETE FROM audit_audithead")
    assert verification.organizations_with_chains() == [org]
    assert not verification.verify_chain(organization_id=org).ok


def test_a_bucket_that_cannot_be_read_is_said_and_does_not_pass_for_broken(
    alice: Persona, settings: Any, checkpoint: Any
) -> None:
    checkpoint(alice)
    settings.CURFEW_AUDIT_ANCHOR_BUCKET = "s3://gone?region=eu-west-1&endpoint=http://127.0.0.1:9"
    settings.CURFEW_AUDIT_ANCHOR_BUCKET_KEY = "AK:SK"
    verdict = verification.verify_chain(organization_id=alice.organization.id)
    assert verdict.ok
    assert "gone could not be read" in verdict.unread
