"""The feed of events: pages, live streams, how long they are kept."""
