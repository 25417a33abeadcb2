"""What must never be lost, put to the test in bulk: `./dev faults`."""
