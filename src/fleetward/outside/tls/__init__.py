"""TLS as a device speaks it to its platform."""
