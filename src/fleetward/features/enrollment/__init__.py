"""How a device gets, renews and recovers its certificate."""
