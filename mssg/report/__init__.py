"""A report: what a model is, what it was measured to do, and where it fails, as one HTML page or PDF."""
