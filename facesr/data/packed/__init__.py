"""Datasets on disk as one array: writing, caching and reading them, and pairs of pictures as datasets."""
