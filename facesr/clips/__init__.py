"""Films: frames in and out one by one, timestamps and sound as they were, and faces followed through them."""
