"""EKS clusters found through a cloud account (moto over HTTP), read with a presigned token, and what is missing named."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from django.test import Client

from accounts.models import CloudAccount
from accounts.providers.aws_rights import principal_of
from clusters import services
from clusters.models import Cluster, FoundCluster
from clusters.services import discovering
from core import discovery, encryption
from core.errors import Conflict, Forbidden, InvalidInput, NotFound
from operations import runner
from operations.models import Operation
from tests.fakes.aws import SandboxAws
from tests.fakes.kube import FakeKube
from tests.fakes.server import Certificates, make_certificates
from tests.personas import Persona, make_account

pytestmark = [pytest.mark.django_db, pytest.mark.integration]
NUMBER = "111111111111"


@pytest.fixture(scope="module")
def aws() -> Iterator[SandboxAws]:
    with SandboxAws(seed=True) as server:
        yield server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def account(aws: SandboxAws, alice: Persona, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[CloudAccount]:
    """Connected by keys, with us-west-2 added in its settings."""
    settings.CURFEW_SANDBOX_AWS_ENDPOINT = aws.url
    monkeypatch.setattr(runner._LeaseKeeper, "start", lambda self: None)
    aws.heal()
    row = make_account(alice.organization, number=NUMBER, is_sandbox=True, settings={"regions": ["us-west-2"]})
    row.credentials = encryption.seal({"aws_account_id": NUMBER}, bound_to=row.seal_name)
    row.save()
    yield row
    aws.heal()


def _search(alice: Persona, account: CloudAccount, *regions: str) -> Operation:
    asked = services.request_discovery(actor=alice.actor, account_id=account.id, regions=regions)
    runner.run_operation(asked.id)
    done: Operation = Operation.objects.all_orgs().get(id=asked.id)
    return done


def test_a_search_finds_every_region_and_names_what_is_missing(
    aws: SandboxAws, account: CloudAccount, alice: Persona, bob: Persona, mallory: Persona
) -> None:
    done = _search(alice, account)
    assert (done.status, done.result["found"], done.result["new"]) == ("succeeded", 3, 3), done.error
    assert done.result["missing"] == []
    assert {r["name"]: r["granted"] for r in done.result["rights"]}["eks:DescribeCluster"] is True
    rows = {row.name: row for row in FoundCluster.objects.for_org(alice.organization)}
    assert rows["lark-prod"].external_id == f"arn:aws:eks:us-east-1:{NUMBER}:cluster/lark-prod"
    assert (rows["farm-west"].region, rows["farm-west"].version) == ("us-west-2", "1.34")
    again = _search(alice, account, "us-east-1")
    assert (again.result["found"], again.result["new"]) == (2, 0)
    assert FoundCluster.objects.for_org(alice.organization).count() == 3, "a region that was not looked at is kept"
    with pytest.raises(InvalidInput):
        services.request_discovery(actor=alice.actor, account_id=account.id, regions=["mars-north-1"])
    with pytest.raises(Forbidden):
        services.connect_found(actor=bob.actor, found_id=rows["lark-prod"].id, way="agent")
    with pytest.raises(NotFound):
        services.connect_found(actor=mallory.actor, found_id=rows["lark-prod"].id, way="agent")


def test_a_refused_region_loses_nothing_and_a_missing_right_is_named(
    aws: SandboxAws, account: CloudAccount, alice: Persona
) -> None:
    _search(alice, account)
    aws.fail("SimulatePrincipalPolicy", code="AccessDenied", message="no", status=403)
    done = _search(alice, account)
    assert done.status == "succeeded"
    assert done.result["missing"] == ["iam:SimulatePrincipalPolicy"]
    assert {r["granted"] for r in done.result["rights"]} == {False, None}
    aws.fail(
        "*", code="AccessDeniedException", message="not authorized to perform: eks:ListClusters", status=403, times=4
    )
    regions = ["us-east-1"]
    found, problems = discovering.look(_connection(account), regions[0])
    assert (found, problems) == ([], ["us-east-1: The connected identity lacks the permission eks:ListClusters."])
    assert FoundCluster.objects.for_org(alice.organization).count() == 3


def _connection(account: CloudAccount) -> Any:
    from accounts import vault

    return vault.connection_of(account)


def test_the_scan_of_an_account_finds_clusters_too(account: CloudAccount, alice: Persona) -> None:
    looking = next(d for d in discovery.for_provider("aws") if d.name == "clusters")
    assert looking.discover(account, _connection(account)) == {"clusters": 3, "new_clusters": 3}
    assert looking.discover(account, _connection(account)) == {"clusters": 3, "new_clusters": 0}


def test_tags_prefill_and_a_cluster_is_connected_once(
    account: CloudAccount, alice: Persona, client_of: Callable[[Persona], Client]
) -> None:
    _search(alice, account)
    browser = client_of(alice)
    page = browser.get(f"/clusters/connect/discover?account={account.id}").content.decode()
    assert "lark-prod" in page
    assert "Unmanaged clusters" in page
    row = FoundCluster.objects.for_org(alice.organization).get(name="lark-prod")
    form = browser.get(f"/clusters/connect/found/{row.id}").content.decode()
    assert 'value="Compositing"' in form
    assert 'value="mira@northlight.example"' in form
    answer = browser.post(f"/clusters/connect/found/{row.id}", {"name": "lark-prod", "team": "FX", "way": "agent"})
    assert "helm upgrade" in answer.content.decode()
    made = Cluster.objects.all_orgs().get()
    assert (made.team, made.owner, made.environment) == ("FX", "", "")
    assert (made.distribution, made.region, made.cloud, made.account_id) == ("eks", "us-east-1", "aws", account.id)
    assert "lark-prod" not in browser.get(f"/clusters/connect/discover?account={account.id}").content.decode()
    with pytest.raises(Conflict):
        services.connect_found(actor=alice.actor, found_id=row.id, way="agent")


class Authenticator:
    """Judges tokens as an EKS API server does: the presigned STS request must be signed, for this cluster, by a key
    that we know. The signature is computed anew from its definition."""

    def __init__(self, secrets: dict[str, str], cluster: str) -> None:
        self.secrets, self.cluster = secrets, cluster
        self.seen: list[str] = []

    def __call__(self, header: str) -> bool:
        scheme, _, token = header.partition(" ")
        if scheme != "Bearer" or not token.startswith("k8s-aws-v1."):
            return False
        self.seen.append(token)
        packed = token.removeprefix("k8s-aws-v1.")
        url = urlsplit(base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode())
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        given = query.pop("X-Amz-Signature")
        assert "x-k8s-aws-id" in query["X-Amz-SignedHeaders"].split(";")
        assert int(query["X-Amz-Expires"]) <= 60
        return hmac.compare_digest(given, self._signature(url.netloc, url.path or "/", query))

    def _signature(self, host: str, path: str, query: dict[str, str]) -> str:
        key_id, day, region, service, _ = query["X-Amz-Credential"].split("/")
        pairs = "&".join(f"{quote(k, safe='-_.~')}={quote(v, safe='-_.~')}" for k, v in sorted(query.items()))
        empty = hashlib.sha256(b"").hexdigest()
        headers = f"host:{host}\nx-k8s-aws-id:{self.cluster}\n"
        request = f"GET\n{path}\n{pairs}\n{headers}\n{query['X-Amz-SignedHeaders']}\n{empty}"
        scope = f"{day}/{region}/{service}/aws4_request"
        digest = hashlib.sha256(request.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{query['X-Amz-Date']}\n{scope}\n{digest}"
        key = f"AWS4{self.secrets[key_id]}".encode()
        for part in (day, region, service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def _api_server(aws: SandboxAws, kube: FakeKube, certificates: Certificates, name: str) -> None:
    ca = base64.b64encode(Path(certificates.ca).read_bytes()).decode()
    endpoint = f"https://localhost:{kube.port}"
    body = {"account_id": NUMBER, "region": "us-west-2", "name": name, "endpoint": endpoint, "ca": ca}
    aws.call("POST", "/_sandbox/cluster", body)


def test_eks_is_read_with_a_presigned_token_and_its_own_authority(
    aws: SandboxAws,
    account: CloudAccount,
    alice: Persona,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
    client_of: Callable[[Persona], Client],
) -> None:
    # the API server of this test is on this machine
    monkeypatch.setattr("clusters.providers.kubeconfig.check_server", lambda server: server)
    monkeypatch.setattr("clusters.providers.kubeconfig.refuse_resolved", lambda server: ["127.0.0.1"])
    monkeypatch.setattr("clusters.providers.eks.check_server", lambda server: server)
    demo = aws.credentials()["accounts"][0]
    judge = Authenticator({demo["access_key_id"]: demo["secret_access_key"]}, "own-server")
    with FakeKube(tls=certificates.server) as kube:
        kube.seed(nodes=3, pods=12)
        kube.accepts = judge
        _api_server(aws, kube, certificates, "own-server")
        _search(alice, account, "us-west-2")
        row = FoundCluster.objects.for_org(alice.organization).get(name="own-server")
        made = services.connect_found(actor=alice.actor, found_id=row.id, way="eks").cluster
        kube.deny(resource="poddisruptionbudgets")
        asked = Operation.objects.all_orgs().get(kind="cluster.preflight")
        runner.run_operation(asked.id)
        asked.refresh_from_db()
        assert asked.status == "succeeded", asked.error
        assert asked.result["missing"] == ["list poddisruptionbudgets.policy"]
        made.refresh_from_db()
        assert (made.state, made.node_count) == ("live", 3)
        assert "poddisruptionbudgets" in made.cause
        assert judge.seen
        page = client_of(alice).get(f"/clusters/{made.id}/waiting").content.decode()
        assert "Success! 3 nodes discovered" in page
        assert "list poddisruptionbudgets.policy" in page
        time.sleep(1.01)  # a signature is of a whole second
        assert services.poll_cluster(cluster_id=made.id)
        assert len(set(judge.seen)) > 1, "each look has a token of its own"
        judge.cluster = "another-cluster"
        assert not services.poll_cluster(cluster_id=made.id), "a token for one cluster opens no other"
        made.refresh_from_db()
        assert "401" in made.cause
        account.delete()
        made.refresh_from_db()
        assert not services.poll_cluster(cluster_id=made.id)
        made.refresh_from_db()
        assert "disconnected" in made.cause


def test_a_session_is_judged_by_its_role() -> None:
    session = "arn:aws:sts::111122223333:assumed-role/team/CurfewAccess/curfew"
    assert principal_of(session) == "arn:aws:iam::111122223333:role/team/CurfewAccess"
    assert principal_of("arn:aws:iam::1:user/x") == "arn:aws:iam::1:user/x"
