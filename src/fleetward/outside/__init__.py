"""What Fleetward touches, one folder a thing; implements the ports of the features."""
