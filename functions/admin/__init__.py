"""What operators see and do: accounts of others."""
