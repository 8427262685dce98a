"""Generators and discriminators, built from frozen configurations."""
