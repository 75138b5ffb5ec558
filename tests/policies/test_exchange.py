"""Node templates to and from Karpenter: what the API server accepts, what comes back, what is said to be lost."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.analysis.facts import Taint
from policies.blueprint import Blueprint
from policies.catalogue import catalogue
from policies.enums import Architecture, DiskType, Purchasing, Strategy
from policies.exchange import InvalidManifest, from_karpenter, object_name, to_karpenter
from tests.policies.karpenter_schema import problems

pytestmark = pytest.mark.unit
FAMILIES = sorted(catalogue().families())
SIZES = sorted({one.size for one in catalogue().types.values()})
KEYS = st.from_regex(r"[a-z]{1,8}(\.dev)?/[a-z]{1,8}|[a-z]{1,10}", fullmatch=True)
WORDS = st.from_regex(r"[A-Za-z0-9]{1,12}", fullmatch=True)


@st.composite
def blueprints(draw: st.DrawFn) -> Blueprint:
    """Any template that the service would save."""
    purchasing = draw(st.sampled_from(Purchasing))
    hybrid = purchasing is Purchasing.HYBRID
    return Blueprint(
        name=draw(st.text("abc XYZ0-9_ÄÖ", min_size=1, max_size=63).filter(str.strip)).strip(),
        architectures=frozenset(draw(st.sets(st.sampled_from(Architecture)))),
        families=frozenset(draw(st.sets(st.sampled_from(FAMILIES), max_size=30))),
        excluded_sizes=frozenset(draw(st.sets(st.sampled_from(SIZES), max_size=8))),
        purchasing=purchasing,
        strategy=draw(st.sampled_from(Strategy)),
        on_demand_base=draw(st.integers(0, 50)) if hybrid else 0,
        on_demand_percent=draw(st.integers(0, 100)) if hybrid else 0,
        disk_type=draw(st.sampled_from(DiskType)),
        disk_gib=draw(st.integers(20, 16384)),
        security_groups=tuple(
            draw(st.lists(st.from_regex(r"sg-[0-9a-f]{8}", fullmatch=True), max_size=3, unique=True))
        ),
        subnets=tuple(draw(st.lists(st.from_regex(r"subnet-[0-9a-f]{8}", fullmatch=True), max_size=3, unique=True))),
        zones=tuple(draw(st.lists(st.sampled_from(["us-east-1a", "us-east-1b"]), max_size=2, unique=True))),
        labels=tuple(sorted(draw(st.dictionaries(KEYS, WORDS, max_size=3)).items())),
        taints=tuple(draw(st.lists(st.builds(Taint, KEYS, WORDS), max_size=2))),
        node_role=draw(st.sampled_from(["", "KarpenterNodeRole-prod"])),
        image=draw(st.sampled_from(["al2023@latest", "bottlerocket@v1.20.0"])),
        limit_cpu=draw(st.none() | st.integers(1, 100_000)),
        limit_memory_gib=draw(st.none() | st.integers(1, 100_000)),
        weight=draw(st.integers(1, 100)),
    )


@settings(max_examples=60, deadline=None)
@given(blueprints())
def test_every_export_is_accepted_and_comes_back_as_it_was(blueprint: Blueprint) -> None:
    done = to_karpenter(blueprint, cluster="prod")
    assert problems(done.pool, done.node_class) == []
    (back,) = from_karpenter(done.text(), catalogue())
    expected = replace(blueprint, node_role=blueprint.node_role or "KarpenterNodeRole-prod")
    assert back.blueprint == expected
    lost = [note for note in back.notes if "choose them in the template" not in note]
    assert lost == []


def test_the_schema_of_these_tests_refuses_what_the_api_server_refuses() -> None:
    done = to_karpenter(Blueprint("general", families=frozenset({"m5"})))
    pool, node_class = done.pool, done.node_class
    pool["spec"]["template"]["spec"]["requirements"].append({"key": "a b", "operator": "In", "values": ["x"]})
    assert problems(pool, node_class)
    again = to_karpenter(Blueprint("general", disk_type=DiskType.GP2))
    again.node_class["spec"]["blockDeviceMappings"][0]["ebs"]["iops"] = 3000
    assert problems(again.pool, again.node_class) == ["iops of a volume without them"]


OTHERS = """
apiVersion: v1
kind: List
items:
- apiVersion: karpenter.sh/v1
  kind: NodePool
  metadata: {name: default}
  spec:
    replicas: 3
    limits: {cpu: "1k", memory: 2Ti, nvidia.com/gpu: 4}
    template:
      spec:
        nodeClassRef: {group: karpenter.k8s.aws, kind: EC2NodeClass, name: default}
        startupTaints: [{key: boot, effect: NoSchedule}]
        requirements:
        - {key: kubernetes.io/arch, operator: In, values: [amd64]}
        - {key: karpenter.sh/capacity-type, operator: In, values: [spot, on-demand]}
        - {key: karpenter.k8s.aws/instance-category, operator: In, values: [c, m]}
        - {key: karpenter.k8s.aws/instance-generation, operator: Gt, values: ["6"]}
        - {key: karpenter.k8s.aws/instance-cpu, operator: Lt, values: ["33"]}
- apiVersion: karpenter.k8s.aws/v1
  kind: EC2NodeClass
  metadata: {name: default}
  spec:
    amiSelectorTerms: [{alias: bottlerocket@latest}]
    role: NodeRole
    userData: "x"
    subnetSelectorTerms: [{tags: {karpenter.sh/discovery: prod}}]
    securityGroupSelectorTerms: [{id: sg-0123}]
    blockDeviceMappings:
    - {deviceName: /dev/xvda, ebs: {volumeSize: 4Gi, volumeType: gp3}}
    - {deviceName: /dev/xvdb, rootVolume: true, ebs: {volumeSize: 1Ti, volumeType: io1, throughput: 200}}
"""


def test_a_pool_that_somebody_else_wrote_says_what_is_not_taken_over() -> None:
    (found,) = from_karpenter(OTHERS, catalogue())
    taken = found.blueprint
    assert taken.purchasing is Purchasing.HYBRID
    assert {"m7i", "c7i", "m7g", "c8g"} <= taken.families
    assert not any(re.match(r"(r|m6|c5)", family) for family in taken.families)
    assert (taken.disk_type, taken.disk_gib, taken.image) == (DiskType.IO1, 1024, "bottlerocket@latest")
    assert (taken.limit_cpu, taken.limit_memory_gib, taken.security_groups) == (1000, 2048, ("sg-0123",))
    text = "\n".join(found.notes)
    for lost in ("instance-cpu Lt 33", "spec.replicas", "startupTaints", "nvidia.com/gpu", "userData", "throughput", "1 further volume", "subnetSelectorTerms"):  # fmt: skip
        assert lost in text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no NodePool"),
        ("a: [", "not YAML"),
        ("- just\n- a list", "must be an object"),
        ("kind: NodePool\napiVersion: karpenter.sh/v1beta1\nmetadata: {name: old}", "only karpenter.sh/v1 is read"),
        ("a: &x [1]\nb: *x", "Anchors"),
        ("x" * (300 * 1024), "More than 256 KiB"),
        ("kind: NodePool\napiVersion: karpenter.sh/v1\nmetadata: [1]", "must be an object"),
        ("kind: NodePool\napiVersion: karpenter.sh/v1\nmetadata: {name: x}\nspec: {template: {spec: {requirements: 7}}}", "must be a list"),
        ("kind: NodePool\napiVersion: karpenter.sh/v1\nmetadata: {name: x}\nspec: {template: {spec: {requirements: [{key: kubernetes.io/os, operator: In, values: [windows]}]}}}", "Only Linux"),
        ("kind: NodePool\napiVersion: karpenter.sh/v1\nmetadata: {name: x}\nspec: {template: {spec: {requirements: [{key: karpenter.k8s.aws/instance-category, operator: In, values: [zz]}]}}}", "no instance family"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(text: str, words: str) -> None:
    with pytest.raises(InvalidManifest, match=re.escape(words)):
        from_karpenter(text, catalogue())


def test_what_karpenter_cannot_say_stands_in_the_file() -> None:
    blueprint = Blueprint("Prod", purchasing=Purchasing.HYBRID, on_demand_base=2, strategy=Strategy.LOWEST_PRICE)
    text = to_karpenter(blueprint).text()
    assert "# Karpenter knows no on-demand base (2)" in text
    assert "lowest price alone" in text
    assert [one["kind"] for one in yaml.safe_load_all(text)] == ["EC2NodeClass", "NodePool"]


def test_names_become_names_of_objects() -> None:
    assert [object_name(n) for n in ("Prod General", "ÄÖ", "-x-", "A" * 80)] == [
        "prod-general",
        "template",
        "x",
        "a" * 63,
    ]
