"""What two or more capabilities use; nothing in here knows what a credit or a chat is."""
