"""The registry: devices, models, groups, and the lifecycle machine."""
