"""CoAP over DTLS 1.2 with mutual X.509 (RFC 7252 section 9), for devices too small for TLS over TCP."""
