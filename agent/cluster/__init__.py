"""The cluster agent: watches one Kubernetes cluster and reports it. docs/agent-protocol.md says what it sends."""
