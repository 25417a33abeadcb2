"""What waits on a device for the server: a durable, bounded queue."""
