"""Long trials of a running Curfew: kills at random moments and bad input. Each has a short form for the suite."""
