"""Device keys: in files, in a PKCS#11 token, in a TPM 2.0; and the stdlib's `ssl` made to use them."""
