"""Protocol-level devices by the thousand: real certificates, mutual TLS, MQTT; no machine or chip behind."""
