"""Folders and files that are written: whose they are, and never half of one."""
