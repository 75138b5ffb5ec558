"""The part of the CIS Kubernetes Benchmark (section 5, numbered as in version 1.10) that an inventory can answer.

PASS and FAIL are given only where the objects themselves prove it; everything else is MANUAL, with what to look at. What
the inventory did not collect is MANUAL too, never PASS. Pods of system namespaces do what these checks look for because
they must (a network plugin uses the host network): they are not failures, but are listed as evidence to review.
Sections 1 to 4 (control plane, etcd, kubelet) cannot be seen from the API: on a managed service the provider answers for
most of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

VERSION = "CIS Kubernetes Benchmark 1.10"
SYSTEM_NAMESPACES = frozenset({"kube-system", "kube-public", "kube-node-lease"})
_EVIDENCE_SHOWN = 20


class Verdict(StrEnum):
    PASS = "pass"  # noqa: S105  not a password
    FAIL = "fail"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class PodSecurity:
    """What a pod's specification says, over all its containers. None: not collected."""

    namespace: str
    name: str
    privileged: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    host_network: bool = False
    host_path: bool = False
    host_ports: bool = False
    privilege_escalation: bool = False  # any container without allowPrivilegeEscalation: false
    may_be_root: bool | None = None  # neither runAsNonRoot nor a user other than 0
    drops_net_raw: bool | None = None  # every container drops NET_RAW or ALL
    added_capabilities: tuple[str, ...] = ()
    secret_in_environment: bool | None = None
    seccomp: bool | None = None  # RuntimeDefault or Localhost
    service_account: str = "default"
    mounts_token: bool | None = None


@dataclass(frozen=True, slots=True)
class Binding:
    """A RoleBinding or ClusterRoleBinding; `namespace` is "" for the latter. Subjects as `Kind/name`."""

    name: str
    role: str
    subjects: tuple[str, ...]
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class Role:
    """A Role or ClusterRole; each rule is (verbs, resources)."""

    name: str
    rules: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
    namespace: str = ""


@dataclass(frozen=True, slots=True)
class SecurityFacts:
    """What was collected; None where it was not."""

    pods: tuple[PodSecurity, ...] | None = None
    bindings: tuple[Binding, ...] | None = None
    roles: tuple[Role, ...] | None = None
    namespaces: tuple[str, ...] | None = None
    namespaces_with_policies: frozenset[str] | None = None
    enforced_pod_security: frozenset[str] | None = None  # namespaces with a pod-security enforce label
    system_namespaces: frozenset[str] = SYSTEM_NAMESPACES


@dataclass(frozen=True, slots=True)
class Check:
    """One answer. `evidence` names the objects behind a FAIL (at most 20, with `more` beyond), or what to review."""

    id: str
    title: str
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    more: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class CisReport:
    """All checks in the order of their numbers."""

    checks: tuple[Check, ...]
    version: str = field(default=VERSION)

    def count(self, verdict: Verdict) -> int:
        return sum(check.verdict is verdict for check in self.checks)

    @property
    def compliant(self) -> bool | None:
        """False with any FAIL, True when something passed and nothing failed, None when nothing could be judged."""
        if self.count(Verdict.FAIL):
            return False
        return True if self.count(Verdict.PASS) else None


def check(facts: SecurityFacts) -> CisReport:
    """Answer every check of the subset."""
    answers = [*_access(facts), *(_pod_check(facts, *rule) for rule in _POD_RULES), *_cluster_wide(facts)]
    answers += [Check(number, title, Verdict.MANUAL, note=note) for number, title, note in _MANUAL]
    return CisReport(tuple(sorted(answers, key=lambda answer: tuple(int(part) for part in answer.id.split(".")))))


# Pods --------------------------------------------------------------------------------------------------------------

_POD_RULES: tuple[tuple[str, str, Callable[[PodSecurity], bool | None]], ...] = (
    ("5.1.6", "Service account tokens are mounted only where needed", lambda pod: pod.mounts_token),
    ("5.2.2", "No privileged containers", lambda pod: pod.privileged),
    ("5.2.3", "No pods share the host's process IDs", lambda pod: pod.host_pid),
    ("5.2.4", "No pods share the host's IPC", lambda pod: pod.host_ipc),
    ("5.2.5", "No pods share the host's network", lambda pod: pod.host_network),
    ("5.2.6", "No containers may escalate privileges", lambda pod: pod.privilege_escalation),
    ("5.2.7", "No containers run as root", lambda pod: pod.may_be_root),
    ("5.2.8", "All containers drop NET_RAW", lambda pod: None if pod.drops_net_raw is None else not pod.drops_net_raw),
    ("5.2.9", "No containers add capabilities", lambda pod: bool(pod.added_capabilities)),
    ("5.2.12", "No pods mount host paths", lambda pod: pod.host_path),
    ("5.2.13", "No containers use host ports", lambda pod: pod.host_ports),
    ("5.4.1", "Secrets are files, not environment variables", lambda pod: pod.secret_in_environment),
    ("5.7.2", "The seccomp profile is set", lambda pod: None if pod.seccomp is None else not pod.seccomp),
    ("5.7.4", "The default namespace is not used", lambda pod: pod.namespace == "default"),
)
# Checks whose finding may be meant: a pod that talks to the API needs its token.
_TO_REVIEW = frozenset({"5.1.6"})


def _pod_check(facts: SecurityFacts, number: str, title: str, breaks: Callable[[PodSecurity], bool | None]) -> Check:
    if facts.pods is None:
        return Check(number, title, Verdict.MANUAL, note="pods were not collected")
    judged = [(pod, breaks(pod)) for pod in facts.pods]
    own = [(pod, bad) for pod, bad in judged if pod.namespace not in facts.system_namespaces]
    bad = [f"{pod.namespace}/{pod.name}" for pod, broken in own if broken]
    system = sum(bool(broken) for pod, broken in judged if pod.namespace in facts.system_namespaces)
    note = f"{system} pods of system namespaces to review" if system else ""
    if bad:
        verdict = Verdict.MANUAL if number in _TO_REVIEW else Verdict.FAIL
        return _with_evidence(number, title, verdict, bad, note)
    if any(broken is None for _, broken in own):
        return Check(number, title, Verdict.MANUAL, note="not collected for every pod")
    return Check(number, title, Verdict.PASS, note=note)


def _with_evidence(number: str, title: str, verdict: Verdict, found: Sequence[str], note: str = "") -> Check:
    ordered = sorted(found)
    return Check(number, title, verdict, tuple(ordered[:_EVIDENCE_SHOWN]), max(0, len(ordered) - _EVIDENCE_SHOWN), note)


# Access ------------------------------------------------------------------------------------------------------------


def _access(facts: SecurityFacts) -> list[Check]:
    return [_cluster_admins(facts), _wildcards(facts), _secrets(facts), _creates_pods(facts), _default_accounts(facts)]


def _cluster_admins(facts: SecurityFacts) -> Check:
    number, title = "5.1.1", "The cluster-admin role is used only where required"
    if facts.bindings is None:
        return Check(number, title, Verdict.MANUAL, note="role bindings were not collected")
    found = [
        f"{binding.name}: {', '.join(binding.subjects)}"
        for binding in facts.bindings
        if binding.role == "cluster-admin"
        and binding.name != "cluster-admin"
        and not binding.name.startswith("system:")
    ]
    return _with_evidence(number, title, Verdict.FAIL, found) if found else Check(number, title, Verdict.PASS)


def _wildcards(facts: SecurityFacts) -> Check:
    number, title = "5.1.3", "Roles do not use wildcards"
    roles = _own_roles(facts)
    if roles is None:
        return Check(number, title, Verdict.MANUAL, note="roles were not collected")
    found = [
        _role_name(role) for role in roles if any("*" in verbs or "*" in resources for verbs, resources in role.rules)
    ]
    return _with_evidence(number, title, Verdict.FAIL, found) if found else Check(number, title, Verdict.PASS)


def _secrets(facts: SecurityFacts) -> Check:
    number, title = "5.1.2", "Access to secrets is kept small"
    return _who_may(facts, number, title, {"get", "list", "watch", "*"}, {"secrets", "*"})


def _creates_pods(facts: SecurityFacts) -> Check:
    return _who_may(facts, "5.1.4", "Access to create pods is kept small", {"create", "*"}, {"pods", "*"})


def _who_may(facts: SecurityFacts, number: str, title: str, verbs: set[str], resources: set[str]) -> Check:
    """FAIL when everyone who is signed in may; otherwise the roles that may are for a person to judge."""
    if facts.bindings is None or facts.roles is None:
        return Check(number, title, Verdict.MANUAL, note="roles or role bindings were not collected")
    able = {
        (role.namespace, role.name): role
        for role in facts.roles
        if any(verbs & set(allowed) and resources & set(on) for allowed, on in role.rules)
    }
    everyone = {"Group/system:authenticated", "Group/system:unauthenticated", "Group/system:serviceaccounts"}
    open_to_all = [
        f"{binding.name}: {', '.join(binding.subjects)}"
        for binding in facts.bindings
        if everyone & set(binding.subjects)
        and ((binding.namespace, binding.role) in able or ("", binding.role) in able)
    ]
    if open_to_all:
        return _with_evidence(number, title, Verdict.FAIL, open_to_all)
    own = [_role_name(role) for role in able.values() if not role.name.startswith("system:")]
    return (
        _with_evidence(number, title, Verdict.MANUAL, own, f"{len(own)} roles may")
        if own
        else Check(number, title, Verdict.PASS)
    )


def _default_accounts(facts: SecurityFacts) -> Check:
    number, title = "5.1.5", "Default service accounts are not used"
    if facts.pods is None:
        return Check(number, title, Verdict.MANUAL, note="pods were not collected")
    found = [
        f"{pod.namespace}/{pod.name}"
        for pod in facts.pods
        if pod.service_account == "default" and pod.mounts_token and pod.namespace not in facts.system_namespaces
    ]
    if found:
        return _with_evidence(number, title, Verdict.FAIL, found)
    if any(pod.mounts_token is None and pod.service_account == "default" for pod in facts.pods):
        return Check(number, title, Verdict.MANUAL, note="token mounts were not collected")
    return Check(number, title, Verdict.PASS)


def _own_roles(facts: SecurityFacts) -> list[Role] | None:
    """Roles that people made: not the cluster's own, and not the three that every cluster comes with."""
    if facts.roles is None:
        return None
    given = {"cluster-admin", "admin", "edit", "view"}
    return [role for role in facts.roles if not role.name.startswith("system:") and role.name not in given]


def _role_name(role: Role) -> str:
    return f"{role.namespace}/{role.name}" if role.namespace else role.name


# The cluster as a whole --------------------------------------------------------------------------------------------


def _cluster_wide(facts: SecurityFacts) -> list[Check]:
    return [
        _per_namespace(
            facts,
            "5.2.1",
            "A policy control mechanism is in place",
            facts.enforced_pod_security,
            "no Pod Security level is enforced; another admission controller may do it",
            Verdict.MANUAL,
        ),
        _per_namespace(
            facts,
            "5.3.2",
            "All namespaces have network policies",
            facts.namespaces_with_policies,
            "pods here accept connections from anywhere",
            Verdict.FAIL,
        ),
    ]


def _per_namespace(
    facts: SecurityFacts, number: str, title: str, covered: frozenset[str] | None, note: str, otherwise: Verdict
) -> Check:
    if facts.namespaces is None or covered is None:
        return Check(number, title, Verdict.MANUAL, note="namespaces or their policies were not collected")
    found = [space for space in facts.namespaces if space not in covered and space not in facts.system_namespaces]
    if found:
        return _with_evidence(number, title, otherwise, found, note)
    return Check(number, title, Verdict.PASS)


_MANUAL = (
    ("5.1.7", "The system:masters group is not used", "look for it in client certificates and identity mappings"),
    ("5.1.8", "Bind, impersonate and escalate are limited", "review the roles that carry these verbs"),
    ("5.3.1", "The network plugin supports network policies", "ask the plugin's documentation"),
    ("5.4.2", "External secret storage was considered", "a decision, not a setting"),
    ("5.5.1", "Image provenance is enforced", "look for an admission controller that verifies signatures"),
    ("5.7.1", "Namespaces separate administrative boundaries", "a matter of organization"),
    ("5.7.3", "Security contexts are applied", "see the findings under 5.2"),
)
