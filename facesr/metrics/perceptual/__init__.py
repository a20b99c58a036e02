"""Metrics that need no original: NIQE, Ma, and the perceptual index of both."""
