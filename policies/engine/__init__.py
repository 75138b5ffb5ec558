"""The infrastructure engine: which node to buy for pods that wait, and which nodes to take away. Pure Python.

- `launching.choose_launches`: the nodes for pending pods within a template, by lowest price or by depth of the pool, and
  `launching.after_error`: what to try after the cloud refused.
- `consolidation.consolidate`: what could be taken away, in order, with the reason for every node that stays.
- `due.select_due`: which of these may begin now (stabilization window, disruption budgets, holds), and `due.confirm`:
  wait, look again, simulate again.
- `replay.replay`: evicts the pods of a plan one by one before a model of the Kubernetes scheduler.

Whoever carries a plan out evicts in the order of `Action.moves`, and lets the new node take pods after the first
`opens_after` of them. Nothing here is believed to come true: it is looked at again before each action.
"""
