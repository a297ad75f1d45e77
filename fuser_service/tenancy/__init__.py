"""Who may ask what, how much of it, and what it came to."""
