"""Content search of one user's conversations: words of messages and titles, found without a scan."""
