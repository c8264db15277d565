"""Records -> clips: sampling of frames, crops, augmentation, clip sources."""
