"""What the boot stage decides: which slot starts, and what is measured before it does. Pure."""
