"""Ways to reach clusters: kubeconfig files, the EKS API."""
