"""Pages of people, settings and cloud accounts."""
