"""Snapshots: reading and writing them, weight interpolation, and those that come with the package."""
