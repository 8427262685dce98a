"""A real image as a latent of the generator, and what is left of it."""
