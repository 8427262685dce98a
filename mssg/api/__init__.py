"""The public Python interface: a model to draw with, its pictures, and real images as its latents."""
