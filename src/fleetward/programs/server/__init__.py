"""The platform: listeners, jobs and the message engine, wired from settings."""
