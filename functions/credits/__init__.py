"""Credits: what a user may still spend, and the ledger that proves it."""
