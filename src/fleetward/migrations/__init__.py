"""Numbered schema steps, run by Alembic; in the package so that the wheel carries them."""
