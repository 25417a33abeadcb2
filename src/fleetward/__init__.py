"""Fleetward secures fleets of connected devices over their whole life, from the factory to retirement."""

__version__ = "0.1.0"
