"""Cameras and the relay's bus."""
