"""Prepared sources: splits, packed images with their table, multi-source batches, and the recipes that
prepare them."""
