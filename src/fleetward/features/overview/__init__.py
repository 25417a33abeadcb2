"""What people need to decide and to understand: it reads the other features and owns little."""
