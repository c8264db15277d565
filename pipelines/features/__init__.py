"""Features of videos on disk: extracted, written, read and sampled."""
