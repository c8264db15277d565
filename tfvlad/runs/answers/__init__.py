"""What a run's model answers about videos."""
