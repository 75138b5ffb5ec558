"""Audit verbs of node templates and policies."""

from audit import verbs

verbs.register(
    node_template__created="Created the node template {target}",
    node_template__changed="Changed the node template {target}",
    node_template__imported="Imported the node template {target}",
    node_template__made_default="Made the node template {target} the default",
    node_template__applied="Applied a node template to {target}",
    node_template__deleted="Deleted the node template {target}",
    policy__created="Created the policy {target}",
    policy__changed="Changed the policy {target}",
    policy__renamed="Renamed the policy {target}",
    policy__restored="Restored an older version of the policy {target}",
    policy__deleted="Deleted the policy {target}",
    policy__applied="Applied a policy to {target}",
    policy__mode_changed="Changed what its policy may do to {target}",
    placement__way_chosen="Chose how placement rules reach {target}",
    placement__rules_changed="Changed the placement rules of {target}",
    placement__synced="Brought the placement of {target} in line",
    policy__taken_off="Took the policy off {target}",
    policy__node_wanted="Asked for a node for {target}",
    policy__removal_begun="Began to take nodes of {target} away",
    policy__action_done="Changed the nodes of {target}",
    policy__action_given_up="Gave up a change of the nodes of {target}",
    policy__action_failed="A change of the nodes of {target} failed",
    policy__written="Wrote node pools of {target}",
    policy__given_back="Gave node pools of {target} back as they were",
    policy__contested="Something changes what a policy wrote in {target}",
    workload__resized="Changed what {target} requests",
    workload__size_rolled_back="Gave {target} its former size back",
)
