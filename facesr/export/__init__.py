"""Export: a snapshot as a file that other programs run."""
