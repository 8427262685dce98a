"""Covariate models: what a source did not record is drawn from what it did."""
