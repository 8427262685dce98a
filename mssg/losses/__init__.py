"""The objective: adversarial terms, the covariate term and the regularisers (METHOD section 5)."""
