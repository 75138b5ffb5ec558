"""Kubernetes clusters: connect them, see what runs in them, and grade what that costs."""
