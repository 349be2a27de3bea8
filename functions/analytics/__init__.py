"""What the events add up to, by day."""
