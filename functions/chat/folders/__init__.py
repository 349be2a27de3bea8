"""Folders that a user keeps conversations in."""
