"""The audit log from outside: a witness file, the database of a stopped platform."""
