"""Enforcers: what carries a policy out on a cluster's nodes (see docs/policies.md).

`watching` sees pods that wait, `looking` reads and plans, `services` decides and writes, `executors` act, step by step,
`karpenter` speaks to a cluster that makes its own nodes. Maintenance and sleep always win.
"""
