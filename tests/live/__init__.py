"""A real Curfew as processes of its own, a watched sandbox cloud beside it, and a client of its HTTP interface."""
