"""Connected clusters as workers: tasks run as Kubernetes Jobs."""
