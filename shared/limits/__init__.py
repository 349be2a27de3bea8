"""Rate limits: how much of the service one caller may take."""
