"""Videos and still images that are drawn, with labels."""
