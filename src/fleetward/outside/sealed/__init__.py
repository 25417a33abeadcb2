"""Files sealed by a passphrase."""
