"""Attacks on a running platform and its camera. Each really does it, then looks for the trace it left."""
