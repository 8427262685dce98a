"""Metrics that `mssg evaluate` can be asked for, one family a file."""
