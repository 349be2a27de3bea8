"""What happened on an account: an append-only, hash-chained log per user."""
