"""Who is calling, what standing they have, and what they may do."""
