"""What analytics holds about a user: nothing."""

from shared.holdings import NothingPersonal

HOLDINGS = (NothingPersonal("analytics_daily", because="counts over all users; no counter names one"),)
