"""Covariate models: what a source did not record is drawn from what it did (METHOD section 3)."""

from mssg.covariates.analytic import Analytic, register
from mssg.covariates.protocol import CovariateModel
from mssg.covariates.system import CovariateModels, fit_models

__all__ = ["Analytic", "CovariateModel", "CovariateModels", "fit_models", "register"]
