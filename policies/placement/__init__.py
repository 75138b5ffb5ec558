"""Where pods may land: rules composed from a policy and its cluster, carried out by the webhook in the cluster or, where
there is none, by patching workload templates."""
