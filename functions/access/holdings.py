"""What is held about a user's API keys and sessions."""

from shared.holdings import Documents

HOLDINGS = (
    Documents("api_keys", archive="api_keys.json", secret_id=True),
    Documents("sessions", archive="sessions.json", secret_id=True, cached_as=("session:{id}",)),
    Documents("key_usage", archive="key_usage.json"),
)
