"""Video files and frame folders: checked, decoded, encoded, streamed, seen live."""
