"""Conversations that their owners show to whoever has the link."""
