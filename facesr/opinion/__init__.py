"""The opinion study: people rate the pictures of several methods, and what may be concluded from it."""
