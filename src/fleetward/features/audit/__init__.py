"""Append-only Merkle log of every state change."""
