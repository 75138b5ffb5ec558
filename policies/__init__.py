"""How much: node templates, optimization policies and what follows from them (see docs/policies.md)."""
