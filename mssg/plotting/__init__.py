"""Figures: grids, counterfactuals, charts of evaluations and of covariate models."""
