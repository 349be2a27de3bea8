"""A stand-in for OpenRouter's API v1 over a real socket: faithful, deterministic, and able to fail on request."""
