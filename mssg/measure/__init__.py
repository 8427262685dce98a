"""Oracles: quantities read directly off an image, with numpy and scipy only."""
