"""What users give to programs and browsers to act for them: API keys and sessions."""
