"""Networks that turn images into features, or read covariates off them."""
