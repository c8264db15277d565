"""Features on disk: extracted from videos or imported from arrays, read and sampled."""
