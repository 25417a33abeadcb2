"""What Fleetward does, one folder a capability."""
