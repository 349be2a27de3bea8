"""What the ledger holds about a user."""

from shared.holdings import Documents

HOLDINGS = (Documents("credit_accounts/{uid}", archive="credits.json"),)
