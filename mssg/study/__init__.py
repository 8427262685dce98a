"""A study: covariates, sources, geometry, and the one layout of condition vectors."""
