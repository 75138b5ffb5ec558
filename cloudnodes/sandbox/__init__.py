"""A cloud to try Curfew with: an AWS simulator that runs beside the demo. Never part of a real installation."""
