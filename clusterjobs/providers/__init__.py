"""The way to a cluster's API server."""
