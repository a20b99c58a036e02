"""Restoration by searching a face generator's latent space (PULSE), and the generators that can be searched."""
