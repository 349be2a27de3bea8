"""One package per capability: its HTTP and callable surface and its rules."""
