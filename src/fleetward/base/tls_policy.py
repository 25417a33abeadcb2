"""Which ciphers all our listeners accept in TLS 1.2: forward secrecy and AEAD, for ECDSA and RSA.

Those of TLS 1.3 are all good. One list, since each listener names ciphers in its own library's way.
"""

_TLS12 = (
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"),
)
IANA_CIPHERS = tuple(iana for iana, _ in _TLS12)
OPENSSL_CIPHERS = ":".join(openssl for _, openssl in _TLS12)
# CCM for constrained devices. CCM_8 of RFC 9148 section 3 is refused: docs/decisions/0015-no-ccm-8.md.
DTLS_CIPHERS = f"{OPENSSL_CIPHERS}:ECDHE-ECDSA-AES128-CCM:ECDHE-ECDSA-AES256-CCM"
