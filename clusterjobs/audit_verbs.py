"""Audit verbs of clusters as workers."""

from audit import verbs

verbs.register(
    job_pool__offered="Let {target} run tasks",
    job_pool__changed="Changed how {target} runs tasks",
    job_pool__withdrawn="{target} runs no more tasks",
)
