"""The version, where every file that states it finds it."""

__version__ = "0.1.0"
