"""From the name of a family in a study to the class that fits it."""

from __future__ import annotations

from typing import cast

import numpy as np

from mssg.covariates.analytic import PREFIX, build, registered
from mssg.covariates.discrete import FrequencyTable
from mssg.covariates.marginal import Beta, Quantiles, Stratified, Uniform
from mssg.covariates.mixture import MixtureModel
from mssg.covariates.protocol import CovariateModel, Family, FittedModel, FittingData, Variable
from mssg.covariates.regression import Linear, Logistic, Sigmoid, Softmax
from mssg.errors import StudyError
from mssg.study.cells import did_you_mean

JOINT = "joint"
EMPIRICAL = "empirical"
_CLASSES: dict[str, type[FittedModel]] = {
    c.family: c for c in (Beta, Uniform, MixtureModel, Linear, Logistic, Softmax, Sigmoid)
}
NAMES = (*_CLASSES, EMPIRICAL, JOINT)


def class_of(family: str, child: Variable) -> type[FittedModel]:
    """The class behind a family name, for this child.

    Raises:
        StudyError: No family of this name; the message lists those there are.
    """
    if family.startswith(PREFIX):
        return registered(family, f"model.{child.name}").model
    if family == EMPIRICAL:
        return Quantiles if child.is_continuous else FrequencyTable
    if family not in _CLASSES:
        raise StudyError(
            "unknown family",
            field=f"model.{child.name}.family",
            found=repr(family),
            expected=" | ".join((*NAMES, f"{PREFIX}NAME")),
            hint=did_you_mean(family, NAMES),
        )
    return _CLASSES[family]


def check_family(
    family: str,
    child: Variable,
    parents: tuple[Variable, ...],
    components: int | None,
    options: tuple[str, ...],
) -> None:
    """Refuse a family that does not fit its child, its parents or its options.

    Raises:
        StudyError: Naming the covariate and what would fit.
    """
    cls, where = class_of(family, child), f"model.{child.name}"
    cls.check(child, parents)
    if components is not None and cls is not MixtureModel:
        raise StudyError(
            "this family has no components", field=f"{where}.components", found=family, hint="Remove it"
        )
    allowed = registered(family, where).constants if family.startswith(PREFIX) else cls.option_names
    for option in options:
        if option not in allowed:
            raise StudyError(
                "unknown option",
                field=f"{where}.{option}",
                expected=" | ".join(("given", "family", "components", *allowed)),
                hint="Remove it",
            )


def fit_family(family: str, data: FittingData, rng: np.random.Generator) -> CovariateModel:
    """Fit a family; discrete parents it cannot take itself get one model per combination of their levels."""
    if family.startswith(PREFIX):
        return build(family, data.child, data.options)
    cls = class_of(family, data.child)
    family_class = cast(type[Family], cls)
    if cls.stratified and any(not p.is_continuous for p in data.parents):
        return Stratified.fit_each(family_class, data, rng)
    return family_class.fit(data, rng)
