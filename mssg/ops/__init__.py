"""The numerical operations of the StyleGAN family, each with interchangeable backends."""
