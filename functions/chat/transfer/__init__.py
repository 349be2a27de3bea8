"""Conversations on their way out and in: export, and import from other products."""
