"""One module per kind of input: each turns what a user has into prepared sources and a study TOML."""
