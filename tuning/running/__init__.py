"""A search while it runs: its processes, its folder, its trials."""
