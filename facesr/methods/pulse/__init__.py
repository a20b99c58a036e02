"""method=pulse: restoration by searching a face generator's latent space, and the generators that can be searched."""
