"""Manifest and chart: the same agent, the rights it needs and no more."""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

import agent
from agent.wire.resources import ORDER_PERMISSIONS, READ_PERMISSIONS, Permission
from clusters.inventory.install import CHART, chart, chart_index, manifest
from tests.agent.helm import Chart, Unsupported

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parent.parent.parent
GIVEN = {
    "url": "https://curfew.example",
    "token": "cfa_x",
    "clusterName": "prod",
    "image": {"repository": "curfew-agent", "tag": "1"},
}
ORDERS = {"orders": {"enabled": True, "publicKey": "a2V5"}}


def _manifest(orders_key: str = "") -> list[dict[str, Any]]:
    text = manifest(
        url="https://curfew.example", token="cfa_x", cluster_name="prod", image="curfew-agent:1", orders_key=orders_key
    )
    return [obj for obj in yaml.safe_load_all(text) if obj]


def _find(objects: list[dict[str, Any]], kind: str, name: str = "curfew-agent") -> dict[str, Any]:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def _granted(role: dict[str, Any]) -> set[Permission]:
    found = set()
    for rule in role["rules"]:
        for group in rule.get("apiGroups", ()):
            for resource in rule["resources"]:
                plural, _, sub = resource.partition("/")
                found |= {Permission(group, plural, verb, sub) for verb in rule["verbs"]}
    return found


@pytest.mark.parametrize("objects", [_manifest(), Chart(CHART).render(GIVEN)], ids=["manifest", "chart"])
def test_rights_are_exactly_those_that_reading_takes(objects: list[dict[str, Any]]) -> None:
    roles = [o for o in objects if o["kind"] == "ClusterRole"]
    assert len(roles) == 1
    assert _granted(roles[0]) == set(READ_PERMISSIONS)
    assert [rule for rule in roles[0]["rules"] if "nonResourceURLs" in rule] == [
        {"nonResourceURLs": ["/version"], "verbs": ["get"]}
    ]
    assert not {"secrets", "configmaps", "*"} & {p.resource for p in _granted(roles[0])}
    assert {p.verb for p in _granted(roles[0])} == {"get", "list", "watch"}


@pytest.mark.parametrize(
    "objects", [_manifest("a2V5"), Chart(CHART).render({**GIVEN, **ORDERS})], ids=["manifest", "chart"]
)
def test_orders_add_exactly_their_rights(objects: list[dict[str, Any]]) -> None:
    assert _granted(_find(objects, "ClusterRole", "curfew-agent-orders")) == set(ORDER_PERMISSIONS)
    env = _env(objects)
    assert (env["CURFEW_ALLOW_ORDERS"], env["CURFEW_ORDERS_KEY"]) == ("1", "a2V5")


def _env(objects: list[dict[str, Any]]) -> dict[str, str]:
    box = _find(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0]
    return {e["name"]: e["value"] for e in box["env"]}


def test_manifest_and_chart_install_the_same() -> None:
    ours, charts = _manifest("a2V5"), Chart(CHART).render({**GIVEN, **ORDERS})
    for kind, names in {
        "ClusterRole": ("curfew-agent", "curfew-agent-orders"),
        "ClusterRoleBinding": ("curfew-agent", "curfew-agent-orders"),
        "Secret": ("curfew-agent",),
    }.items():
        for name in names:
            one, other = _find(ours, kind, name), _find(charts, kind, name)
            for field in ("rules", "roleRef", "subjects", "stringData"):
                assert one.get(field) == other.get(field), (kind, name, field)
    one, other = (_find(o, "Deployment")["spec"] for o in (ours, charts))
    assert (one["replicas"], one["strategy"]) == (other["replicas"], other["strategy"]) == (1, {"type": "Recreate"})
    left, right = (s["template"]["spec"] for s in (one, other))
    assert left["securityContext"] == right["securityContext"]
    assert left["volumes"] == right["volumes"]
    for field in ("image", "args", "resources", "securityContext", "volumeMounts"):
        assert left["containers"][0][field] == right["containers"][0][field], field
    assert {k: v for k, v in _env(charts).items() if k != "CURFEW_LOG_LEVEL"} == {
        k: v for k, v in _env(ours).items() if v
    }


WEBHOOK = {"orders": {"publicKey": "a2V5"}, "webhook": {"enabled": True, "replicas": 2}}


def _webhook_manifest() -> list[dict[str, Any]]:
    text = manifest(
        url="https://curfew.example", token="cfa_x", cluster_name="prod", image="curfew-agent:1", orders_key="a2V5",
        orders=False, webhook=True,
    )  # fmt: skip
    return [obj for obj in yaml.safe_load_all(text) if obj]


@pytest.mark.parametrize(
    "objects", [_webhook_manifest(), Chart(CHART).render({**GIVEN, **WEBHOOK})], ids=["manifest", "chart"]
)
def test_the_webhook_never_blocks_and_may_do_no_more_than_it_must(objects: list[dict[str, Any]]) -> None:
    (hook,) = _find(objects, "MutatingWebhookConfiguration", "curfew-agent-placement")["webhooks"]
    assert (hook["failurePolicy"], hook["timeoutSeconds"], hook["sideEffects"]) == ("Ignore", 2, "None")
    (away,) = hook["namespaceSelector"]["matchExpressions"]
    assert (away["key"], away["operator"]) == ("kubernetes.io/metadata.name", "NotIn")
    assert set(away["values"]) == {"curfew", "kube-system", "kube-public", "kube-node-lease"}
    assert hook["rules"][0]["operations"] == ["CREATE"]
    everywhere = _granted(_find(objects, "ClusterRole", "curfew-agent-webhook"))
    assert everywhere == {
        Permission("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "get"),
        Permission("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "patch"),
        Permission("", "namespaces", "get"),
        Permission("", "pods", "list"),
        Permission("", "pods", "create", "eviction"),
    }
    for name, wanted in (
        ("curfew-agent-webhook", {"secrets", "configmaps"}),
        ("curfew-agent-placement", {"configmaps"}),
    ):
        role = _find(objects, "Role", name)
        assert {p.resource for p in _granted(role)} == wanted
        assert {p.verb for p in _granted(role)} == {"get", "patch"}
        assert all(rule["resourceNames"] for rule in role["rules"])
    assert not [o for o in objects if o["metadata"]["name"] == "curfew-agent-orders"]
    env = _env(objects)
    assert (env["CURFEW_ORDERS_KEY"], env["CURFEW_PLACEMENT_CONFIG"]) == ("a2V5", "curfew-agent-placement")
    assert env.get("CURFEW_ALLOW_ORDERS", "0") == "0"


def test_manifest_and_chart_install_the_same_webhook() -> None:
    def plain(objects: list[dict[str, Any]]) -> dict[tuple[str, str], Any]:
        found = {}
        for one in objects:
            obj = json.loads(re.sub(r'"app.kubernetes.io/instance": "[^"]*",? ?', "", json.dumps(one, sort_keys=True)))
            if obj["kind"] != "Deployment":
                obj["metadata"].pop("labels", None)
            found[obj["kind"], obj["metadata"]["name"]] = obj
        return {key: obj for key, obj in found.items() if key[1] in {"curfew-agent-webhook", "curfew-agent-placement"}}

    ours, charts = plain(_webhook_manifest()), plain(Chart(CHART).render({**GIVEN, **WEBHOOK}))
    spec = charts["Deployment", "curfew-agent-webhook"]["spec"]["template"]["spec"]
    assert (spec.pop("imagePullSecrets"), spec.pop("priorityClassName")) == ([], "")
    assert spec["containers"][0].pop("imagePullPolicy") == "IfNotPresent"
    assert ours == charts
    assert len(ours) == 12


@pytest.mark.parametrize("objects", [_manifest(), Chart(CHART).render(GIVEN)], ids=["manifest", "chart"])
def test_the_pod_is_restricted_and_never_put_to_sleep(objects: list[dict[str, Any]]) -> None:
    deployment = _find(objects, "Deployment")
    spec = deployment["spec"]["template"]["spec"]
    box = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert deployment["metadata"]["labels"]["curfew.dev/protected"] == "true"
    assert (
        deployment["spec"]["template"]["metadata"]["labels"].items()
        >= deployment["spec"]["selector"]["matchLabels"].items()
    )
    assert "cfa_x" not in json.dumps(deployment), "the token is in the Secret only"


def test_the_manifest_takes_any_text() -> None:
    for odd in ('"', "'", "a: b", "${token}", "$$", "line\nbreak", "---", "{{ x }}", "é"):
        objects = list(yaml.safe_load_all(manifest(url=odd, token=odd, cluster_name=odd, image=odd)))
        assert _find(objects, "Secret")["stringData"]["token"] == odd
        assert _env(objects)["CURFEW_CLUSTER_NAME"] == odd
        assert len(objects) == 6


def test_options_of_the_chart() -> None:
    made = Chart(CHART)
    objects = made.render(
        {
            **GIVEN,
            "caCertificate": "PEM",
            "allowHttp": True,
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://p"}],
        },
        name="other",
        namespace="ops",
    )
    env = {
        e["name"]: e["value"]
        for e in _find(objects, "Deployment", "other")["spec"]["template"]["spec"]["containers"][0]["env"]
    }
    assert env["CURFEW_CA_FILE"] == "/etc/curfew-ca/ca.crt"
    assert (env["CURFEW_ALLOW_HTTP"], env["HTTPS_PROXY"]) == ("1", "http://p")
    assert _find(objects, "ConfigMap", "other")["data"] == {"ca.crt": "PEM"}
    assert _find(objects, "ClusterRoleBinding", "other")["subjects"] == [
        {"kind": "ServiceAccount", "name": "other", "namespace": "ops"}
    ]
    elsewhere = made.render({"url": "https://x", "existingSecret": "mine"})
    assert not [o for o in elsewhere if o["kind"] == "Secret"]
    assert _find(elsewhere, "Deployment")["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] == "mine"
    assert (
        _find(elsewhere, "Deployment")["spec"]["template"]["spec"]["containers"][0]["image"]
        == f"curfew-agent:{made.facts['appVersion']}"
    )
    with pytest.raises(Unsupported, match="set token"):
        made.render({"url": "https://x"})
    with pytest.raises(Unsupported, match=r"set orders\.publicKey"):
        made.render({**GIVEN, "orders": {"enabled": True}})


def test_the_schema_of_the_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    check = jsonschema.Draft7Validator(schema)
    defaults = Chart(CHART).defaults
    assert not check.is_valid(defaults), "an address and a token are needed"
    assert check.is_valid({**defaults, **GIVEN})
    assert check.is_valid({**defaults, "url": "https://x", "existingSecret": "mine"})
    assert not check.is_valid({**defaults, **GIVEN, "url": "curfew.example"})


def test_the_packed_chart() -> None:
    made = chart()
    assert chart.__wrapped__().data == made.data, "the same sources, the same bytes"
    with tarfile.open(fileobj=io.BytesIO(made.data)) as archive:
        names = set(archive.getnames())
    assert {"curfew-agent/Chart.yaml", "curfew-agent/values.yaml", "curfew-agent/templates/deployment.yaml"} <= names
    index = yaml.safe_load(chart_index("https://curfew.example/charts/", created="2026-11-21T00:00:00Z"))
    entry = index["entries"]["curfew-agent"][0]
    assert entry["urls"] == [f"https://curfew.example/charts/{made.file_name}"]
    assert entry["digest"] == made.digest


def test_one_version_everywhere() -> None:
    facts = Chart(CHART).facts
    assert facts["appVersion"] == agent.__version__


def test_the_agent_imports_nothing_but_itself_and_the_standard_library() -> None:
    for path in (ROOT / "agent" / "wire", ROOT / "agent" / "cluster"):
        for file in [*path.rglob("*.py"), ROOT / "agent" / "transport.py", ROOT / "agent" / "__main__.py"]:
            for item in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                names = (
                    [a.name for a in item.names]
                    if isinstance(item, ast.Import)
                    else [item.module or ""]
                    if isinstance(item, ast.ImportFrom)
                    else []
                )
                for name in names:
                    top = name.partition(".")[0]
                    assert (
                        top in sys.stdlib_module_names
                        or top == "agent"
                        or (top == "cryptography" and file.name in {"orders.py", "certs.py"})
                    ), (file, name)
                    if "wire" in file.parts:
                        assert not name.startswith("agent.") or name.startswith("agent.wire"), (file, name)


def test_the_server_knows_the_agent_by_its_wire_alone_and_in_one_place() -> None:
    apps = ("accounts", "audit", "clusters", "cloudnodes", "config", "core", "costs", "dashboard", "hibernation", "operations", "policies", "gpu_fleet", "taskrunner", "notifications")  # fmt: skip
    for app in apps:
        for file in (ROOT / app).rglob("*.py"):
            for name in re.findall(
                r"^\s*(?:from|import)\s+(agent(?:\.\w+)*)\b", file.read_text(encoding="utf-8"), re.MULTILINE
            ):
                assert name.startswith("agent.wire"), (file, name)
                assert (ROOT / "clusters" / "inventory") in file.parents, (file, name)


def test_the_agent_runs_without_the_project_around_it(tmp_path: Path) -> None:
    (tmp_path / "agent").symlink_to(ROOT / "agent")
    script = (
        "import sys; sys.argv=['agent','cluster','--help']\n"
        "import agent.cluster.live, agent.cluster.main, agent.cluster.replay\n"
        "bad={m.partition('.')[0] for m in sys.modules} & {'django','cryptography','kubernetes','urllib3','core','clusters','yaml'}\n"
        "sys.exit(str(bad) if bad else 0)"
    )  # fmt: skip
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "usage"), (["--version"], 0, agent.__version__), (["nonsense"], 2, "no agent of the kind"), (["cluster", "--help"], 0, "--replay"),
        (["cluster"], 2, "address is missing"), (["cluster", "--url", "http://away.example"], 2, "not encrypted"),
        (["cluster", "--url", "https://x"], 2, "token is missing"), (["cluster", "--dry-run"], 2, "not inside a cluster"),
        (["cluster", "--dry-run", "--api-server", "http://127.0.0.1:9"], 1, "refused"),
        (["cluster", "--url", "http://127.0.0.1:9", "--api-server", "http://127.0.0.1:9", "--allow-orders"], 2, "token is missing"),
    ],
)  # fmt: skip
def test_the_command_line(arguments: list[str], code: int, said: str) -> None:
    import os

    environment = {k: v for k, v in os.environ.items() if not k.startswith(("CURFEW_", "KUBERNETES_"))}
    done = subprocess.run(
        [sys.executable, "-m", "agent", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
    )
    assert (done.returncode, said in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr


def test_the_protocol_page_names_what_there_is() -> None:
    """Collections, options, verbs and refusals of the code stand in the contract, and the reverse."""
    from agent.cluster.main import _parser
    from agent.cluster.orders import _VERBS
    from agent.wire.model import COLLECTIONS

    page = (ROOT / "docs" / "agent-protocol.md").read_text(encoding="utf-8")
    section = page.partition("## Records")[2].partition("## Orders")[0]
    first_cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(COLLECTIONS)
    verbs = page.partition("| verb |")[2].partition("Before a change")[0]
    assert {
        n
        for line in verbs.splitlines()[2:]
        if line.startswith("| `")
        for n in re.findall(r"`([\w-]+)`", line.split("|")[1])
    } == set(_VERBS)
    options = {option for action in _parser()._actions for option in action.option_strings if option.startswith("--")}
    told = set(re.findall(r"`(--[\w-]+)[` ]", page)) | set(re.findall(r" (--[\w-]+) ", page))
    assert told <= options, told - options
    for name in re.findall(r"CURFEW_([A-Z_]+)", page):
        source = (
            "".join(p.read_text() for p in (ROOT / "agent" / "cluster").glob("*.py"))
            + (ROOT / "agent" / "transport.py").read_text()
        )
        assert f'"{name}"' in source, name
