"""The TUF repository: its keys and roots, its ceremonies, and the metadata of each model."""
