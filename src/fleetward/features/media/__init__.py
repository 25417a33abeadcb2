"""Live video of verified devices: tickets for viewers, and the relay."""
