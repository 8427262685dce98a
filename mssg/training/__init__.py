"""Training: configuration, the loop, one step, runs and their resumption."""
