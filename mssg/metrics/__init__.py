"""Measures of a generator: what it controls, how far it varies, how near it is to real images."""
