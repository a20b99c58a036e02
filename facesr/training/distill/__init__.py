"""Training and measuring the built-in judge."""
