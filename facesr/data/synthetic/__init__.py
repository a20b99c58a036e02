"""Pictures that are rendered, so that everything works without data: faces and dead leaves."""
