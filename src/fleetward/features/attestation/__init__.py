"""Proof of what a device is and what it runs: activated keys, quotes, appraisal (RFC 9334)."""
