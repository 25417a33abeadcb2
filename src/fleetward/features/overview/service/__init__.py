"""Use cases of overview: what waits for a decision, why a device is as it is, acting on many at once."""
