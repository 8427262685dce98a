"""The objective: adversarial terms, the covariate term and the regularisers (docs/method/method.md section
5)."""
