"""What node templates need of a cloud account: its security groups and subnets."""
