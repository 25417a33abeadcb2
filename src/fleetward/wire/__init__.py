"""What crosses the network: pure `parse_` and `render_` functions, no I/O."""
