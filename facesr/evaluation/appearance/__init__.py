"""What can be read from the picture of a face: computed columns, and columns of models that a user supplies."""
