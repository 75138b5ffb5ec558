"""Kubernetes API objects (as parsed JSON) to records. The one implementation: the agent and the platform's poll use it.

Whatever is missing or malformed in an object becomes "not known"; no object makes a builder fail except one without
a name. Nothing secret is taken: no environment, no arguments, no ConfigMap, no Secret; annotations only of known tools.
"""

from agent.wire.build.nodes import node, node_claim, node_pool
from agent.wire.build.others import autoscaler, budget, claim, cluster, event, event_matters, namespace, volume
from agent.wire.build.pods import pod, pod_spec, spec_key
from agent.wire.build.workloads import workload

__all__ = [
    "autoscaler",
    "budget",
    "claim",
    "cluster",
    "event",
    "event_matters",
    "namespace",
    "node",
    "node_claim",
    "node_pool",
    "pod",
    "pod_spec",
    "spec_key",
    "volume",
    "workload",
]
