"""Which model each covariate gets: defaults, the study's own tables, and studies that cannot be."""

from __future__ import annotations

import pytest
from covariate_cases import DIGITS, DIGITS_OBSERVES, DIGITS_TRUTH, cohort, continuous, study_of

from mssg.covariates.graph import build_graph
from mssg.errors import StudyError
from mssg.study.covariate import Covariate
from mssg.study.model import ModelSpec, Study


def graph(study: Study) -> dict[str, tuple[str, tuple[str, ...]]]:
    """Member(s) -> family and parents."""
    return {"+".join(f.members): (f.family, f.parents) for f in build_graph(study)}


def refused(*models: ModelSpec, covariates=DIGITS, observes=DIGITS_OBSERVES, **more) -> str:
    with pytest.raises(StudyError) as error:
        build_graph(study_of(covariates, observes, models, **more))
    return str(error.value)


def test_defaults_of_two_cohorts():
    study, _ = cohort()
    assert graph(study) == {
        "age": ("beta", ()),
        "sex": ("logistic", ("age",)),
        "ventricle": ("gmm", ("age",)),
        "grey": ("gmm", ("age",)),
    }


def test_defaults_of_digits():
    assert graph(study_of(DIGITS, DIGITS_OBSERVES)) == {
        "thickness": ("gmm", ()),
        "digit": ("softmax", ("thickness",)),
        "intensity": ("gmm", ("thickness",)),
        "slant": ("gmm", ("thickness",)),
    }


def test_defaults_keep_what_one_source_records_together():
    covariates = (continuous("age"), continuous("left"), continuous("right"), continuous("other"))
    study = study_of(covariates, {"A": ("age", "left", "right"), "B": ("age", "other")})
    assert graph(study)["right"] == ("gmm", ("age", "left"))
    assert graph(study)["other"] == ("gmm", ("age",))


def test_defaults_without_a_continuous_covariate_are_frequencies():
    flags = (Covariate("a", "binary"), Covariate("b", "binary"))
    assert graph(study_of(flags, {"A": ("a", "b")})) == {"a": ("empirical", ()), "b": ("empirical", ())}


def test_the_source_becomes_a_parent_of_shared_covariates():
    study, _ = cohort()
    own = Study(**{**vars_of(study), "condition_on_source": True})
    found = graph(own)
    assert found["source"] == ("empirical", ())
    assert found["age"] == ("beta", ("source",))
    assert found["ventricle"] == ("gmm", ("age",))


def vars_of(study: Study) -> dict:
    import dataclasses

    return {f.name: getattr(study, f.name) for f in dataclasses.fields(study)}


def test_a_default_never_closes_a_cycle_with_a_stated_model():
    covariates = (continuous("age"), continuous("height"))
    study = study_of(covariates, {"A": ("age", "height")}, [ModelSpec("age", ("height",), "linear")])
    assert graph(study) == {"height": ("gmm", ()), "age": ("linear", ("height",))}


def test_a_stated_family_without_parents_is_a_marginal():
    study = study_of(DIGITS, DIGITS_OBSERVES, [ModelSpec("slant", (), "gmm", 3)])
    assert graph(study)["slant"] == ("gmm", ())


def test_a_family_left_out_is_chosen_by_kind():
    study = study_of(
        DIGITS, DIGITS_OBSERVES, [ModelSpec("digit", ("thickness",)), ModelSpec("slant", (), "", 4)]
    )
    assert graph(study)["digit"] == ("softmax", ("thickness",))
    slant = next(f for f in build_graph(study) if f.members == ("slant",))
    assert (slant.family, slant.parents, slant.components) == ("gmm", ("thickness",), 4)


def test_empirical_flags_are_drawn_as_rows():
    flags = (Covariate("risk", "binary"), Covariate("mh", "binary"), Covariate("grade", "binary"))
    models = [ModelSpec(n, (), "empirical") for n in ("risk", "mh", "grade")]
    study = study_of(flags, {"A": ("risk", "mh"), "B": ("grade",)}, models)
    assert graph(study) == {"risk+mh": ("empirical", ()), "grade": ("empirical", ())}


def test_joint_members_share_one_factor():
    models = [ModelSpec("intensity", ("thickness",), "joint", 4), ModelSpec("slant", ("thickness",), "joint")]
    factor = next(f for f in build_graph(study_of(DIGITS, DIGITS_OBSERVES, models)) if len(f.members) == 2)
    assert (factor.members, factor.parents, factor.components) == (("intensity", "slant"), ("thickness",), 4)
    assert factor.options == {"unobserved_correlation": 0.0}


def test_a_bare_joint_table_takes_all_that_is_not_stated():
    models = [
        ModelSpec("digit", (), "empirical"),
        ModelSpec("joint", (), "", 3, {"unobserved_correlation": 0.4}),
    ]
    found = {f.members: f for f in build_graph(study_of(DIGITS, DIGITS_OBSERVES, models))}
    assert found["thickness", "intensity", "slant"].options == {"unobserved_correlation": 0.4}
    assert ("digit",) in found


@pytest.mark.parametrize(
    ("models", "words"),
    [
        ([ModelSpec("slant", ("thickness",), "splines")], ["model.slant.family", "'splines'", "gmm"]),
        ([ModelSpec("slant", ("thickness",), "sigmoed")], ["Did you mean 'sigmoid'"]),
        ([ModelSpec("slant", ("thickness",), "analytic:tilt")], ["'analytic:tilt'", "analytic:slant"]),
        (
            [ModelSpec("slant", ("thickness",), "softmax")],
            ["model.slant", "continuous", "binary or categorical"],
        ),
        ([ModelSpec("digit", ("thickness",), "logistic")], ["model.digit", "categorical", "binary"]),
        ([ModelSpec("slant", ("thickness",), "beta")], ["model.slant.given", "1 continuous", "0 continuous"]),
        ([ModelSpec("slant", (), "sigmoid")], ["model.slant.given", "0 continuous", "Expected 1 continuous"]),
        (
            [ModelSpec("slant", ("intensity",), "gmm")],
            ["model.slant.given", "no source records", "intensity"],
        ),
        ([ModelSpec("slant", ("thickness",), "linear", 5)], ["model.slant.components", "linear"]),
        ([ModelSpec("slant", ("thickness",), "gmm", 5, {"knots": 3})], ["model.slant.knots", "components"]),
        ([ModelSpec("slant", ("weight",), "gmm")], ["model.slant.given", "'weight'", "thickness"]),
        ([ModelSpec("slant", ("source",), "gmm")], ["condition_on_source"]),
        ([ModelSpec("source", (), "empirical")], ["model.source"]),
        (
            [ModelSpec("thickness", ("slant",), "gmm"), ModelSpec("slant", ("thickness",), "gmm")],
            ["cycle", "thickness ← slant ← thickness"],
        ),
        (
            [ModelSpec("slant", (), "joint", 3), ModelSpec("intensity", (), "joint", 4)],
            ["different numbers of components", "[3, 4]"],
        ),
        ([ModelSpec("slant", (), "joint", 3, {"unobserved_correlation": 1.5})], ["1.5", "between"]),
        ([ModelSpec("slant", (), "joint", 3, {"rho": 0.5})], ["rho", "unobserved_correlation"]),
        ([ModelSpec("digit", (), "joint")], ["needs a continuous"]),
    ],
)
def test_studies_that_cannot_be(models, words):
    message = refused(*models)
    for word in words:
        assert word in message


def test_analytic_models_need_no_common_source():
    slant = ModelSpec("slant", ("intensity",), "analytic:slant")
    assert graph(study_of(DIGITS, DIGITS_OBSERVES, [*DIGITS_TRUTH[:2], slant]))["slant"][1] == ("intensity",)


def test_too_many_covariates_are_refused():
    many = tuple(Covariate(f"flag{k}", "binary") for k in range(63))
    assert "62 at most" in refused(covariates=many, observes={"A": tuple(c.name for c in many)})
