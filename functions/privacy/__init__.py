"""A user's right to take their data away, and to have it gone."""
