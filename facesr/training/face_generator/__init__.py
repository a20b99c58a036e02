"""Training the face generator that method=pulse can search."""
