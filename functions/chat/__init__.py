"""Conversations with models: turns, their streams, the message tree."""
