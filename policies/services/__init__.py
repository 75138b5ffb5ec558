"""Everything that changes node templates and policies."""
