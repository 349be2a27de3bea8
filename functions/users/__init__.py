"""Accounts of people: profile, user name, preferences, avatar, and what operators may change about them."""
