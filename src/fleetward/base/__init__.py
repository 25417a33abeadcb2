"""What all rooms share: errors, ids, clock, db, events, config, logging, web."""
