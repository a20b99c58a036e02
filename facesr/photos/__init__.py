"""Photographs as people have them: decoding, detecting faces, cropping them."""
