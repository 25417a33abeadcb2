"""What the agent can do: each a file or folder here, and a line in `all.ABILITIES`."""
