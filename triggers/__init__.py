"""Event-driven functions: decode, act once, log one line."""
