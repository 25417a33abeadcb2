"""Plants single faults in the pure rules and tells which of them no test notices."""
