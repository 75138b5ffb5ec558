"""Putting a Kubernetes cluster to sleep and waking it: what stays, in which order, what is remembered, what is undone."""
