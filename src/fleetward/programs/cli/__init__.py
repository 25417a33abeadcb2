"""The command line. It speaks to a platform over HTTPS only; one file a subject."""
