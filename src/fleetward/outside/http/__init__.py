"""HTTPS clients: the device's and an operator's."""
