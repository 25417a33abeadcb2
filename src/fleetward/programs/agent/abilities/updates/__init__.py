"""Keeps the device's firmware up to date: the ability, and the runner of the update machine."""
