"""Kubeconfigs that must be refused, with the reason, and the few that may be taken."""

from __future__ import annotations

import base64
import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.test import Client
from kubernetes.client import CoreV1Api

from accounts.vault import reseal_all
from clusters import services
from clusters.models import Cluster
from clusters.providers import api_client, kubeconfig
from clusters.providers.kubeconfig import KubeAccess
from core import encryption
from core.errors import InvalidInput
from core.providers import InvalidRequest
from tests.fakes.kube import FakeKube
from tests.fakes.server import make_certificates
from tests.personas import Persona

CERTIFICATE = base64.b64encode(b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n").decode()
KEY = base64.b64encode(b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n").decode()
TOKEN = "a-token-that-nobody-may-see"
GOOD: dict[str, Any] = {
    "apiVersion": "v1",
    "kind": "Config",
    "current-context": "prod",
    "contexts": [{"name": "prod", "context": {"cluster": "c", "user": "u"}}],
    "clusters": [
        {"name": "c", "cluster": {"server": "https://10.1.2.3:6443", "certificate-authority-data": CERTIFICATE}}
    ],
    "users": [{"name": "u", "user": {"token": TOKEN}}],
}
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


def changed(cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **top: Any) -> str:
    raw = copy.deepcopy(GOOD)
    raw["clusters"][0]["cluster"].update(cluster or {})
    raw["users"][0]["user"].update(user or {})
    return yaml.safe_dump({**raw, **top})


@pytest.mark.unit
@pytest.mark.parametrize(
    ("text", "code"),
    [
        (changed(user={"exec": {"command": "sh", "args": ["-c", "id"]}}), "exec"),
        (changed(user={"auth-provider": {"name": "gcp"}}), "auth_provider"),
        (changed(user={"tokenFile": "/etc/passwd"}), "tokenfile"),
        (changed(user={"client-certificate": "/etc/passwd"}), "client_certificate"),
        (changed(user={"client-key": "/etc/shadow"}), "client_key"),
        (changed(user={"username": "root", "password": "x"}), "username"),
        (changed(user={"as": "system:masters"}), "as"),
        (changed(user={"token": ""}), "no_credentials"),
        (changed(user={"token": "", "client-certificate-data": CERTIFICATE}), "no_credentials"),
        (changed(user={"client-key-data": CERTIFICATE}), "bad_pem"),
        (changed({"certificate-authority": "/etc/hosts"}), "certificate_authority"),
        (changed({"certificate-authority-data": "%%%"}), "bad_pem"),
        (changed({"proxy-url": "http://169.254.169.254"}), "proxy_url"),
        (changed({"insecure-skip-tls-verify": True}), "insecure_skip_tls_verify"),
        (changed({"server": "http://10.1.2.3"}), "not_https"),
        (changed({"server": "file:///etc/passwd"}), "not_https"),
        (changed({"server": ""}), "not_https"),
        (changed({"server": "https://a:b@10.1.2.3"}), "bad_server"),
        (changed({"server": "https://10.1.2.3:99999"}), "bad_server"),
        (changed({"server": "https://169.254.169.254"}), "forbidden_address"),
        (changed({"server": "https://[fe80::1]"}), "forbidden_address"),
        (changed({"server": "https://[::ffff:169.254.169.254]"}), "forbidden_address"),
        (changed({"server": "https://[fd00:ec2::254]"}), "forbidden_address"),
        (changed({"server": "https://2852039166"}), "forbidden_address"),
        (changed({"server": "https://0xa9fea9fe"}), "forbidden_address"),
        (changed({"server": "https://127.1"}), "forbidden_address"),
        (changed({"server": "https://localhost:6443"}), "forbidden_address"),
        (changed({"server": "https://LOCALHOST."}), "forbidden_address"),
        (changed({"server": "https://metadata.google.internal"}), "forbidden_address"),
        (changed({"server": "https://0.0.0.0"}), "forbidden_address"),
        (changed(**{"current-context": "other"}), "no_context"),
        (changed(users=[]), "dangling_context"),
        (changed(kind="Secret"), "not_kubeconfig"),
        (changed(contexts="prod"), "not_kubeconfig"),
        ("[]", "not_kubeconfig"),
        (BOMB, "yaml_alias"),
        ("[" * 500, "too_complex"),
        ("!!python/object/apply:os.system [id]", "not_yaml"),
        ("a: b: c", "not_yaml"),
        ("#" * 300_000, "too_large"),
    ],
)
def test_dangerous_files_are_refused_with_the_reason(text: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        kubeconfig.read(text)
    assert refused.value.code == code
    assert TOKEN not in refused.value.message


@pytest.mark.unit
def test_bytes_that_are_no_text_are_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        kubeconfig.read(b"\xff\xfe\x00")
    assert refused.value.code == "not_text"


@pytest.mark.unit
def test_embedded_credentials_are_taken() -> None:
    found = kubeconfig.read(changed())
    assert (found.context, found.access.server, found.access.token) == ("prod", "https://10.1.2.3:6443", TOKEN)
    assert found.access.ca.startswith("-----BEGIN CERTIFICATE")
    assert TOKEN not in repr(found)
    both = kubeconfig.read(changed(user={"token": "", "client-certificate-data": CERTIFICATE, "client-key-data": KEY}))
    assert both.access.client_key.startswith("-----BEGIN PRIVATE KEY")


@pytest.mark.unit
def test_a_name_that_leads_to_a_forbidden_address_is_refused_at_each_connection() -> None:
    with pytest.raises(InvalidRequest):
        kubeconfig.refuse_resolved("https://api.example.com", lambda host, port: ["8.8.8.8", "169.254.169.254"])
    judged = kubeconfig.refuse_resolved("https://api.example.com", lambda host, port: ["10.0.0.1"])
    assert judged == ["10.0.0.1"]


def test_a_connection_goes_to_the_judged_address_and_speaks_as_the_name(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki")
    authority = Path(certificates.ca).read_text()
    with FakeKube(token=TOKEN, tls=certificates.server) as kube:
        kube.seed(nodes=2, pods=3)
        # this name leads nowhere by now; the judged address answers, with a certificate for another name
        access = KubeAccess(f"https://moved.invalid:{kube.port}", ca=authority, token=TOKEN)
        both = ["127.0.0.2", "127.0.0.1"]
        with api_client.client(access, tmp_path, both) as api, pytest.raises(Exception, match="certificate"):
            CoreV1Api(api).list_node()
        named = replace(access, tls_name="localhost")
        with api_client.client(named, tmp_path, ["127.0.0.1"]) as api:
            assert len(CoreV1Api(api).list_node().items) == 2
        nobody = ["127.0.0.2"]  # and no other way is tried
        with api_client.client(named, tmp_path, nobody) as api, pytest.raises(Exception, match="cannot be reached"):
            CoreV1Api(api).list_node()


@pytest.mark.django_db
def test_it_is_stored_sealed_and_never_shown(alice: Persona, client_of: Callable[[Persona], Client]) -> None:
    browser = client_of(alice)
    answer = browser.post("/clusters/connect/kubeconfig", {"name": "sealed", "kubeconfig": changed()})
    row = Cluster.objects.all_orgs().get()
    assert answer.status_code == 302
    assert TOKEN not in row.credentials
    assert encryption.unseal(row.credentials, bound_to=row.seal_name)["token"] == TOKEN
    assert TOKEN not in browser.get(f"/clusters/{row.id}/?tab=compliance").content.decode()
    assert TOKEN not in browser.get(f"/api/clusters/{row.id}").content.decode()


@pytest.mark.django_db
def test_the_form_says_why_it_was_refused(alice: Persona, client_of: Callable[[Persona], Client]) -> None:
    text = changed(user={"exec": {"command": "sh"}})
    answer = client_of(alice).post("/clusters/connect/kubeconfig", {"name": "bad", "kubeconfig": text})
    assert answer.status_code == 422
    assert "runs a program to get its credentials" in answer.content.decode()
    assert not Cluster.objects.all_orgs().exists()


@pytest.mark.django_db
def test_credentials_are_sealed_anew_under_a_new_key(alice: Persona, settings: Any) -> None:
    made = services.create_cluster(actor=alice.actor, name="sealed", kubeconfig_text=changed())
    settings.CURFEW_ENCRYPTION_KEYS = f"k2:{base64.b64encode(b'2' * 32).decode()},{settings.CURFEW_ENCRYPTION_KEYS}"
    assert [(r.done, r.failed) for r in reseal_all() if r.kind == "cluster"] == [(1, 0)]
    row = Cluster.objects.all_orgs().get(id=made.cluster.id)
    assert encryption.key_id_of(row.credentials) == "k2"
    assert encryption.unseal(row.credentials, bound_to=row.seal_name)["token"] == TOKEN


@pytest.mark.django_db
def test_a_viewer_may_not_connect(bob: Persona) -> None:
    from core.errors import Forbidden

    with pytest.raises(Forbidden):
        services.create_cluster(actor=bob.actor, name="x", kubeconfig_text=changed())


@pytest.mark.django_db
def test_fields_are_checked(alice: Persona) -> None:
    with pytest.raises(InvalidInput) as refused:
        services.create_cluster(actor=alice.actor, name=" ", environment="moon", region="<script>", team="t" * 81)
    assert set(refused.value.errors) == {"name", "environment", "region", "team"}
