"""Use cases of access, one module a subject; import the module: `from …access.service import grants`."""
