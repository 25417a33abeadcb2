"""Plays what a fleet meets: devices with chips and power switches, and attackers."""
