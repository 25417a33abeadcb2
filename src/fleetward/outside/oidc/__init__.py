"""OpenID providers."""
