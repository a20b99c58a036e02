"""Submissions: restoring a folder, packing the answer, and verifying the archives of strangers."""
