"""The MQTT connection of a device."""
