"""Where pods may land: spot, no burstable machines, across zones. Pure; the webhook in the cluster, the patch mode and the
policy page all ask this one module.

Rules never leave a pod waiting in silence. A hard rule becomes a soft one (`soft`) for pods that nobody would make anew,
for pods that waited too long, and where the cluster has nothing that fits. What a pod chose for itself stands. Applying
the same rules to a result changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
CONTEXT = b"curfew-placement-v1\n"
MARK = "curfew.dev/placement"
OPT_OUT = "curfew.dev/unmanaged"
ZONE = "topology.kubernetes.io/zone"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"
OFF, FORCE, PREFER = "off", "force", "prefer"
STRATEGIES = (OFF, FORCE, PREFER)
MOST_TERMS = 40
MOST_NAMES = 500
LONGEST_WAIT = 24 * 60
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
# Networks, name service, certificates and node scalers live in namespaces of these names.
PLATFORM_NAMESPACES = frozenset(
    {
        "calico-apiserver",
        "calico-system",
        "cert-manager",
        "cilium",
        "cilium-system",
        "karpenter",
        "kube-flannel",
        "metallb-system",
        "tigera-operator",
    }
)
# ... or carry one of these names in one of these labels, wherever they run.
PLATFORM_APPS = frozenset(
    {
        "antrea",
        "aws-node",
        "azure-cns",
        "calico-kube-controllers",
        "calico-node",
        "calico-typha",
        "cert-manager",
        "cilium",
        "cilium-operator",
        "coredns",
        "curfew-agent",
        "curfew-webhook",
        "flannel",
        "karpenter",
        "kindnet",
        "kube-dns",
        "kube-flannel",
        "kube-proxy",
        "kube-router",
        "node-local-dns",
        "ovnkube-node",
        "weave-net",
    }
)
APP_LABELS = ("app.kubernetes.io/name", "k8s-app", "app")
# How clouds and provisioners say that a node may be taken away; a pod that names one of these keys chose for itself.
SPOT_KEYS = frozenset(
    {
        "karpenter.sh/capacity-type",
        "eks.amazonaws.com/capacityType",
        "node.kubernetes.io/lifecycle",
        "lifecycle",
        "cloud.google.com/gke-spot",
        "cloud.google.com/gke-preemptible",
        "cloud.google.com/gke-provisioning",
        "kubernetes.azure.com/scalesetpriority",
    }
)
FAMILY_KEYS = frozenset({INSTANCE_TYPE, "beta.kubernetes.io/instance-type", "karpenter.k8s.aws/instance-family"})
# Labels that differ between pods of one application, or between its versions.
_OWN_LABELS = frozenset(
    {
        "pod-template-hash",
        "controller-revision-hash",
        "pod-template-generation",
        "statefulset.kubernetes.io/pod-name",
        "apps.kubernetes.io/pod-index",
        "rollouts-pod-template-hash",
    }
)
_SPREADABLE = frozenset({"ReplicaSet", "StatefulSet", "Deployment"})
FORCED, PREFERRED, NO_BURSTABLE, FEWER_BURSTABLE, SPREAD, SOFT_SPREAD = (
    "force-spot",
    "prefer-spot",
    "no-burstable",
    "avoid-burstable",
    "spread-zones",
    "prefer-zones",
)
HARD = frozenset({FORCED, NO_BURSTABLE, SPREAD})
Object = dict[str, Any]
# The fields of a pod's spec that rules may change.
FIELDS = ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints")


class BadRules(ValueError):
    """The rules cannot be read; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a policy asks for, with what is known of the cluster.

    `spot`: labels (key, value) that mark spot nodes of this cluster; none: nothing there can be spot, so no pod is sent
    there. `tolerations` let pods onto spot nodes that are tainted as such. `burstable` are names of instance types.
    """

    version: int = 0
    strategy: str = OFF
    block_burstable: bool = False
    spread: bool = False
    fallback_minutes: int = 10
    exempt_namespaces: frozenset[str] = frozenset()
    exempt_labels: tuple[tuple[str, str], ...] = ()
    own_namespace: str = ""
    spot: tuple[tuple[str, str], ...] = ()
    tolerations: tuple[tuple[str, str, str], ...] = ()  # key, value ("": any), effect ("": any)
    burstable: tuple[str, ...] = ()

    @property
    def idle(self) -> bool:
        """Whether nothing is asked for, or nothing that this cluster could give."""
        return not ((self.strategy != OFF and self.spot) or (self.block_burstable and self.burstable) or self.spread)

    def wire(self) -> dict[str, Any]:
        """As they travel; `read` is the inverse."""
        return {
            "format": FORMAT,
            "version": self.version,
            "strategy": self.strategy,
            "block_burstable": self.block_burstable,
            "spread": self.spread,
            "fallback_minutes": self.fallback_minutes,
            "exempt_namespaces": sorted(self.exempt_namespaces),
            "exempt_labels": [list(pair) for pair in self.exempt_labels],
            "own_namespace": self.own_namespace,
            "spot": [list(pair) for pair in self.spot],
            "tolerations": [list(one) for one in self.tolerations],
            "burstable": list(self.burstable),
        }


def read(raw: object) -> Rules:
    """Rules from their wire form. Raises BadRules."""
    if not isinstance(raw, dict) or raw.get("format") != FORMAT:
        raise BadRules("not rules of a format that is known here")
    version, minutes, strategy = raw.get("version"), raw.get("fallback_minutes", 10), raw.get("strategy")
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise BadRules("version is no count")
    if not isinstance(minutes, int) or isinstance(minutes, bool) or not 1 <= minutes <= LONGEST_WAIT:
        raise BadRules("fallback_minutes is not within 1 and 1440")
    if strategy not in STRATEGIES:
        raise BadRules(f"unknown strategy {str(strategy)[:40]!r}")
    return Rules(
        version=version,
        strategy=str(strategy),
        block_burstable=raw.get("block_burstable") is True,
        spread=raw.get("spread") is True,
        fallback_minutes=minutes,
        exempt_namespaces=frozenset(_texts(raw, "exempt_namespaces", 1)),
        exempt_labels=tuple((a, b) for a, b in _texts(raw, "exempt_labels", 2)),
        own_namespace=str(raw.get("own_namespace") or "")[:253],
        spot=tuple((a, b) for a, b in _texts(raw, "spot", 2)),
        tolerations=tuple((a, b, c) for a, b, c in _texts(raw, "tolerations", 3)),
        burstable=tuple(_texts(raw, "burstable", 1)),
    )


def _texts(raw: Mapping[str, Any], name: str, width: int) -> list[Any]:
    """A list of texts (width 1), or of lists of so many texts."""
    found = raw.get(name) or []
    if not isinstance(found, list) or len(found) > MOST_NAMES:
        raise BadRules(f"{name} is no list of at most {MOST_NAMES}")
    rows = [[one] for one in found] if width == 1 else found
    if not all(
        isinstance(row, list) and len(row) == width and all(isinstance(v, str) and len(v) <= 512 for v in row)
        for row in rows
    ):
        raise BadRules(f"{name} holds something else than texts")
    return list(found)


@dataclass(frozen=True, slots=True)
class Placed:
    """What rules make of one pod: the spec's fields that differ, the names of what was done, why it was left alone."""

    fields: Mapping[str, Any] = field(default_factory=dict)
    done: tuple[str, ...] = ()
    exempt: str = ""

    @property
    def hard(self) -> bool:
        return bool(HARD & set(self.done))


def why_exempt(rules: Rules, namespace: str, labels: Mapping[str, Any]) -> str:
    """Why something in this namespace with these labels is left alone, in words; "" when it is not."""
    if namespace in SYSTEM_NAMESPACES:
        return f"{namespace} belongs to the cluster itself"
    if rules.own_namespace and namespace == rules.own_namespace:
        return "Curfew's own namespace"
    if namespace in PLATFORM_NAMESPACES:
        return f"{namespace} holds network, certificates or node scaler"
    for key in APP_LABELS:
        if labels.get(key) in PLATFORM_APPS:
            app = str(labels[key])
            return (
                f"{app} is Curfew's own" if app.startswith("curfew-") else f"{app} is network, name service or scaler"
            )
    if namespace in rules.exempt_namespaces:
        return f"the namespace {namespace} is exempt"
    if OPT_OUT in labels and labels[OPT_OUT] != "false":
        return f"it carries the label {OPT_OUT}"
    for key, value in rules.exempt_labels:
        if key in labels and value in ("", labels[key]):
            return f"it carries the label {key}" + (f"={value}" if value else "")
    return ""


def _pod_exempt(metadata: Mapping[str, Any], spec: Mapping[str, Any], owner: str) -> str:
    """Pods whose node is decided already."""
    if owner in {"DaemonSet", "Node"} or "kubernetes.io/config.mirror" in _dict(metadata.get("annotations")):
        return "it runs on every node, or belongs to one"
    if spec.get("nodeName"):
        return "its node is chosen"
    if str(spec.get("priorityClassName") or "").startswith("system-"):
        return "its priority is that of the system"
    return ""


def owner_of(metadata: Mapping[str, Any]) -> tuple[str, str]:
    """Kind and name of the controller that would make the pod anew; ("", "") when nobody would."""
    for one in _dicts(metadata.get("ownerReferences")):
        if one.get("controller") is True:
            return str(one.get("kind") or "")[:63], str(one.get("name") or "")[:253]
    return "", ""


def place(rules: Rules, namespace: str, pod: Mapping[str, Any], *, soft: bool = False, kind: str = "") -> Placed:
    """What the rules change about a pod, or about the template of a workload of that `kind`. Never raises for an odd pod.

    `soft`: it waited long enough; hard rules are wishes now.
    """
    metadata, spec = _dict(pod.get("metadata")), _dict(pod.get("spec"))
    owner = kind or owner_of(metadata)[0]
    exempt = why_exempt(rules, namespace, _dict(metadata.get("labels"))) or _pod_exempt(metadata, spec, owner)
    if exempt:
        return Placed(exempt=exempt)
    if rules.idle:
        return Placed()
    new: Object = {name: spec[name] for name in FIELDS if name in spec}  # rules replace, they change nothing in place
    soft = soft or not owner  # nobody would make a bare pod anew, so it must not wait for ever
    done = [
        *_spot(rules, new, soft),
        *_burstable(rules, new, soft),
        *_zones(rules, new, soft or bool(_claims(spec)), metadata, owner),
    ]
    fields = {name: value for name, value in new.items() if spec.get(name) != value}
    return Placed(fields, tuple(done) if fields else ())


def _claims(spec: Mapping[str, Any]) -> list[Object]:
    """Volumes that may be bound to a zone: a pod must be able to go where its volume is."""
    return [v for v in _dicts(spec.get("volumes")) if "persistentVolumeClaim" in v or "ephemeral" in v]


# the rules


def _spot(rules: Rules, spec: Object, soft: bool) -> list[str]:
    if rules.strategy == OFF or not rules.spot:
        return []
    markers = {key for key, _ in rules.spot}
    if _names(spec, SPOT_KEYS | markers):
        return []
    done = [PREFERRED]
    if rules.strategy == FORCE and not soft and _force(rules, spec):
        done = [FORCED]
    elif not all(_prefers(spec, key, "In", [value]) for key, value in rules.spot):
        for key, value in rules.spot:
            _prefer(spec, key, "In", [value], 100)
    else:
        done = []
    before = len(_dicts(spec.get("tolerations")))
    _tolerate(rules, spec)
    return done or ([PREFERRED] if len(_dicts(spec.get("tolerations"))) != before else [])


def _force(rules: Rules, spec: Object) -> bool:
    """A node selector where one label marks spot; where several do, any of them by required affinity."""
    if len(rules.spot) == 1:
        if not isinstance(spec.get("nodeSelector", {}), dict):
            return False
        ((key, value),) = rules.spot
        spec["nodeSelector"] = {**spec.get("nodeSelector", {}), key: value}
        return True
    terms = _required(spec) or [{}]
    if len(terms) * len(rules.spot) > MOST_TERMS:
        return False
    return _require(spec, [_and(term, key, "In", [value]) for term in terms for key, value in rules.spot])


def _burstable(rules: Rules, spec: Object, soft: bool) -> list[str]:
    if not rules.block_burstable or not rules.burstable or _chooses_type(spec):
        return []
    values = list(rules.burstable)
    if not soft:
        terms = _required(spec) or [{}]
        if all(_excludes(term, values) for term in terms):
            return []
        if len(terms) <= MOST_TERMS:
            made = [term if _excludes(term, values) else _and(term, INSTANCE_TYPE, "NotIn", values) for term in terms]
            if _require(spec, made):
                return [NO_BURSTABLE]
    if _prefers(spec, INSTANCE_TYPE, "NotIn", values) or _names(spec, {INSTANCE_TYPE}):
        return []
    _prefer(spec, INSTANCE_TYPE, "NotIn", values, 50)
    return [FEWER_BURSTABLE]


def _zones(rules: Rules, spec: Object, soft: bool, metadata: Mapping[str, Any], owner: str) -> list[str]:
    labels = {k: v for k, v in _dict(metadata.get("labels")).items() if k not in _OWN_LABELS}
    have = spec.get("topologySpreadConstraints") or []
    if not rules.spread or owner not in _SPREADABLE or not labels or not isinstance(have, list):
        return []
    if any(one.get("topologyKey") == ZONE for one in _dicts(have)):
        return []
    spec["topologySpreadConstraints"] = [
        *have,
        {
            "maxSkew": 1,
            "topologyKey": ZONE,
            "whenUnsatisfiable": "ScheduleAnyway" if soft else "DoNotSchedule",
            "labelSelector": {"matchLabels": labels},
        },
    ]
    return [SOFT_SPREAD if soft else SPREAD]


# parts of a pod's spec; everything may have any shape


def _dict(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Object]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _node_affinity(spec: Mapping[str, Any]) -> Object:
    return _dict(_dict(spec.get("affinity")).get("nodeAffinity"))


def _required(spec: Mapping[str, Any]) -> list[Object]:
    required = _dict(_node_affinity(spec).get("requiredDuringSchedulingIgnoredDuringExecution"))
    return _dicts(required.get("nodeSelectorTerms"))


def _preferred(spec: Mapping[str, Any]) -> list[Object]:
    return _dicts(_node_affinity(spec).get("preferredDuringSchedulingIgnoredDuringExecution"))


def _expressions(term: Mapping[str, Any]) -> list[Object]:
    return _dicts(term.get("matchExpressions"))


def _names(spec: Mapping[str, Any], keys: Iterable[str]) -> bool:
    """Whether the pod itself says something about one of these labels that a node must have."""
    wanted = set(keys)
    if wanted & set(_dict(spec.get("nodeSelector"))):
        return True
    return any(str(e.get("key")) in wanted for term in _required(spec) for e in _expressions(term))


def _chooses_type(spec: Mapping[str, Any]) -> bool:
    """Whether the pod itself asks for certain types or families of machines; excluding some is no choice."""
    if FAMILY_KEYS & set(_dict(spec.get("nodeSelector"))):
        return True
    return any(
        str(e.get("key")) in FAMILY_KEYS and e.get("operator") == "In"
        for term in _required(spec)
        for e in _expressions(term)
    )


def _excludes(term: Mapping[str, Any], values: list[str]) -> bool:
    return any(
        e.get("key") == INSTANCE_TYPE
        and e.get("operator") == "NotIn"
        and isinstance(e.get("values"), list)
        and set(values) <= {str(v) for v in e["values"]}
        for e in _expressions(term)
    )


def _and(term: Mapping[str, Any], key: str, operator: str, values: list[str]) -> Object:
    return {
        **term,
        "matchExpressions": [*_expressions(term), {"key": key, "operator": operator, "values": values}],
    }


def _affinity(spec: Object) -> Object | None:
    """A nodeAffinity of the spec's own that may be changed; None when something odd stands in its place."""
    affinity = spec.get("affinity")
    node = affinity.get("nodeAffinity") if isinstance(affinity, dict) else None
    if not isinstance(affinity, dict | None) or not isinstance(node, dict | None):
        return None
    node = {**(node or {})}
    spec["affinity"] = {**(affinity or {}), "nodeAffinity": node}
    return node


def _require(spec: Object, terms: list[Object]) -> bool:
    node = _affinity(spec)
    if node is None:
        return False
    required = _dict(node.get("requiredDuringSchedulingIgnoredDuringExecution"))
    node["requiredDuringSchedulingIgnoredDuringExecution"] = {**required, "nodeSelectorTerms": terms}
    return True


def _prefers(spec: Mapping[str, Any], key: str, operator: str, values: list[str]) -> bool:
    return any(
        e.get("key") == key and e.get("operator") == operator and e.get("values") == values
        for one in _preferred(spec)
        for e in _expressions(_dict(one.get("preference")))
    )


def _prefer(spec: Object, key: str, operator: str, values: list[str], weight: int) -> None:
    node = _affinity(spec)
    if node is None or _prefers(spec, key, operator, values):
        return
    have = node.get("preferredDuringSchedulingIgnoredDuringExecution") or []
    if not isinstance(have, list):
        return
    wish = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
    node["preferredDuringSchedulingIgnoredDuringExecution"] = [*have, {"weight": weight, "preference": wish}]


def _tolerate(rules: Rules, spec: Object) -> None:
    have = spec.get("tolerations") or []
    if not isinstance(have, list):
        return
    wanted = []
    for key, value, effect in rules.tolerations:
        made = {"key": key, "operator": "Equal" if value else "Exists"}
        made |= {"value": value} if value else {}
        made |= {"effect": effect} if effect else {}
        if not any(_covers(one, key, value, effect) for one in _dicts(have)):
            wanted.append(made)
    if wanted:
        spec["tolerations"] = [*have, *wanted]


def _covers(one: Mapping[str, Any], key: str, value: str, effect: str) -> bool:
    if one.get("effect") not in (None, "", effect):
        return False
    if one.get("operator") == "Exists":
        return one.get("key") in (None, "", key)
    return one.get("key") == key and str(one.get("value") or "") == value


# patches


def steps(pod: Mapping[str, Any], placed: Placed) -> list[Object]:
    """The JSON Patch that turns the pod into the placed one, and notes on it what was done; [] when nothing changes."""
    if not placed.fields:
        return []
    spec = _dict(pod.get("spec"))
    made: list[Object] = []
    for name, value in placed.fields.items():
        made += difference(f"/spec/{name}", spec.get(name), value, name in spec)
    annotations = _dict(pod.get("metadata")).get("annotations")
    if annotations is None:
        made.append({"op": "add", "path": "/metadata/annotations", "value": {MARK: marked({}, placed)}})
    elif isinstance(annotations, dict):
        text = marked(annotations, placed)
        if annotations.get(MARK) != text:
            operation = "replace" if MARK in annotations else "add"
            made.append({"op": operation, "path": f"/metadata/annotations/{_escaped(MARK)}", "value": text})
    return made


def marked(annotations: Mapping[str, Any], placed: Placed) -> str:
    """The note on a pod: what was done to it, now and before."""
    before = [word for word in str(annotations.get(MARK) or "").split(",") if word]
    return ",".join(dict.fromkeys([*before, *placed.done]))[:200]


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")


def difference(path: str, old: Any, new: Any, there: bool) -> list[Object]:
    """Operations of RFC 6902 from old to new: as deep as the change is, an addition where a list grows at its end."""
    if not there or old is None:
        return [{"op": "add", "path": path, "value": new}]
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        made = [{"op": "remove", "path": f"{path}/{_escaped(key)}"} for key in old if key not in new]
        for key, value in new.items():
            made += difference(f"{path}/{_escaped(key)}", old.get(key), value, key in old)
        return made
    if isinstance(old, list) and isinstance(new, list) and old and new[: len(old)] == old:
        return [{"op": "add", "path": f"{path}/-", "value": value} for value in new[len(old) :]]
    return [{"op": "replace", "path": path, "value": new}]
