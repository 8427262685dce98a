"""Synthetic people: cohorts drawn from a model, as data sets that other tools read."""
