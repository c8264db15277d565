"""Optical flow: computed of videos, kept as images."""
