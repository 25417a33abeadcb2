"""nats-server: our own child or an outside cluster; connections, callout, mirrors, streams."""
