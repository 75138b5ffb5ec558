"""The agent of a rented machine: tells how it is, backs it up and brings files back. Standard library and restic."""
