"""The device: boots verified firmware, keeps its certificate alive, and talks to the platform."""
