"""The hierarchy of authorities: what each certificate holds, how it is founded, how an issuer is followed."""
