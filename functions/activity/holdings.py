"""What the activity log holds about a user."""

from shared.holdings import Documents, Erasure

HOLDINGS = (
    # An erased account's chain goes on under a pseudonym and without its content: service.erase_some.
    Documents("activity/{uid}", archive="activity.json", erasure=Erasure.OWN_WAY),
)
