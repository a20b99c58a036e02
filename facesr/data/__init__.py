"""Faces: preparing them, drawing them, reading them, augmenting them and feeding them to training."""
