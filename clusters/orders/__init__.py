"""What the platform tells a cluster's agent to do or to keep: signed with a key of that cluster alone, sent in the answers
to its heartbeats."""
