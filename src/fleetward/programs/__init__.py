"""How Fleetward runs: wiring only."""
