"""Sessions: who may connect, to which topics, until when; telemetry, shadow, commands, presence."""
