"""Attacks against a platform under honest load: what the honest notice of them."""
