"""The directed graph of covariate models: which covariate is modelled by which family given which others.

What a study's [model] tables leave open is filled by these defaults. Shared covariates (recorded by most
sources) come first: continuous ones by a marginal (beta if min-max scaled, else gmm), each further one given
the shared continuous ones before it; with `condition_on_source` they are also given the source. Every other
covariate is given the
shared continuous ones recorded with it, and the continuous ones before it that the very same sources record:
by gmm regression, logistic or softmax. Discrete covariates without parents are frequencies.
A slice's position is uniform: it depends on nothing, and nothing on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mssg.covariates.families import EMPIRICAL, JOINT, check_family
from mssg.covariates.marginal import Uniform
from mssg.covariates.protocol import Variable
from mssg.errors import StudyError
from mssg.study.covariate import KINDS, SOURCE, Covariate
from mssg.study.model import ModelSpec, Study

CORRELATION = "unobserved_correlation"
MOST_COVARIATES = 62  # a row's missing covariates are one bit each of an int64


@dataclass(frozen=True)
class Factor:
    """One piece of the joint distribution: p(members | parents). Several members share one joint model."""

    members: tuple[str, ...]
    parents: tuple[str, ...]
    family: str
    components: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def variable_of(covariate: Covariate) -> Variable:
    """A covariate as the models see it."""
    return Variable(covariate.name, covariate.num_levels, covariate.transform == "log")


def build_graph(study: Study) -> tuple[Factor, ...]:
    """The factors of a study, parents before children.

    Raises:
        StudyError: A cycle, an unknown family, one that does not fit its covariate, or parents that no source
            records together with their child.
    """
    if len(study.conditions) > MOST_COVARIATES:
        raise StudyError(
            "too many covariates",
            field="covariates",
            found=len(study.conditions),
            expected=f"{MOST_COVARIATES} at most",
        )
    if SOURCE in study.models:
        raise StudyError(
            "the source is always known and needs no model; its shares are the sources' weights",
            field=f"model.{SOURCE}",
            hint="Remove this table",
        )
    joint = _joint_members(study)
    specs = {c.name: _explicit(study, c) for c in study.personal if c.name not in joint}
    edges: dict[str, set[str]] = {c.name: set() for c in study.conditions}
    for name, spec in specs.items():
        edges[name] |= set(spec.given) if spec else set()
    joint_factor = _joint_factor(study, joint)
    for name in joint:
        edges[name] |= set(joint_factor.parents) if joint_factor else set()
    factors = [Factor((SOURCE,), (), EMPIRICAL)] if study.condition_on_source else []
    factors += [Factor((study.position,), (), Uniform.family)] if study.position else []
    factors += [joint_factor] if joint_factor else []
    for name in _default_order(study):
        if name in joint:
            continue
        spec = specs[name] or _default(study, name, edges)
        edges[name] |= set(spec.given)
        factors.append(Factor((name,), spec.given, spec.family, spec.components, options=spec.options))
    for factor in factors:
        _check_factor(study, factor)
    return _sorted(_merge_rows(study, factors))


def _explicit(study: Study, covariate: Covariate) -> ModelSpec | None:
    """The study's own specification, its family filled in; None where the defaults decide on the parents
    too."""
    spec = study.models.get(covariate.name)
    if spec is None or not (spec.given or spec.family):
        return None
    family = spec.family or _default_family(study, covariate, spec.given)
    return ModelSpec(covariate.name, spec.given, family, spec.components, options=spec.options)


def _default_order(study: Study) -> list[str]:
    """Shared continuous covariates, shared discrete ones, then the others, each in the study's order."""
    shared = _shared(study)
    names = [c.name for c in study.personal]
    first = [n for n in names if n in shared and study.covariate(n).is_continuous]
    second = [n for n in names if n in shared and n not in first]
    return first + second + [n for n in names if n not in shared]


def _shared(study: Study) -> list[str]:
    """Covariates that more than half of the sources record."""
    return [c.name for c in study.personal if 2 * len(study.observers(c.name)) > len(study.sources)]


def _default(study: Study, name: str, edges: Mapping[str, set[str]]) -> ModelSpec:
    """The default specification; a parent that would close a cycle with the study's own tables is left
    out."""
    shared, order = _shared(study), _default_order(study)
    before = order[: order.index(name)]
    given: list[str] = []
    for other in before:
        if not study.covariate(other).is_continuous:
            continue
        alike = study.covariate(name).is_continuous and study.observers(other) == study.observers(name)
        if (
            (other in shared or alike)
            and study.observed_together(name, other, *given)
            and not _depends(edges, other, name)
        ):
            given.append(other)
    if study.condition_on_source and name in shared:
        given.append(SOURCE)
    told = study.models.get(name)
    components, options = (told.components, told.options) if told else (None, {})
    return ModelSpec(
        name, tuple(given), _default_family(study, study.covariate(name), tuple(given)), components, options
    )


def _default_family(study: Study, covariate: Covariate, given: tuple[str, ...]) -> str:
    continuous = any(study.covariate(p).is_continuous for p in given)
    if covariate.is_continuous:
        return "beta" if covariate.scale == "minmax" and not continuous else KINDS[covariate.kind].family
    if not continuous:
        return EMPIRICAL
    return KINDS[covariate.kind].family


def _depends(edges: Mapping[str, set[str]], name: str, on: str) -> bool:
    """Whether `name` is `on` or descends from it."""
    seen, waiting = set(), [name]
    while waiting:
        here = waiting.pop()
        if here == on:
            return True
        if here not in seen:
            seen.add(here)
            waiting += edges.get(here, ())
    return False


def _joint_members(study: Study) -> list[str]:
    """Covariates of family joint; a bare [model.joint] table takes all that have no table of their own."""
    members = [c.name for c in study.covariates if getattr(study.models.get(c.name), "family", "") == JOINT]
    if JOINT in study.models and not members and JOINT not in [c.name for c in study.covariates]:
        members = [c.name for c in study.personal if _explicit(study, c) is None]
    return members


def _joint_factor(study: Study, members: list[str]) -> Factor | None:
    if not members:
        return None
    specs = [study.models[n] for n in (*members, JOINT) if n in study.models]
    parents = tuple(dict.fromkeys(p for spec in specs for p in spec.given if p not in members))
    components = {spec.components for spec in specs if spec.components is not None}
    options = {(key, value) for spec in specs for key, value in spec.options.items()}
    for what, found in (("components", components), ("options", {key for key, _ in options})):
        if what == "components" and len(found) > 1:
            raise StudyError(
                "the joint model is one model, but its covariates state different numbers of components",
                field="model",
                found=sorted(found),
                hint="State components once, in [model.joint]",
            )
        if what == "options" and (found - {CORRELATION} or len(options) > 1):
            raise StudyError(
                "unknown or contradicting options of the joint model",
                field="model",
                found=", ".join(f"{k} = {v}" for k, v in sorted(options, key=str)),
                expected=f"{CORRELATION}, once",
            )
    rho = dict(options).get(CORRELATION, 0.0)
    if isinstance(rho, bool) or not isinstance(rho, int | float) or not -1 < rho < 1:
        raise StudyError(
            "not a correlation",
            field=f"model.joint.{CORRELATION}",
            found=repr(rho),
            expected="between −1 and 1",
        )
    return Factor(tuple(members), parents, JOINT, min(components, default=None), {CORRELATION: float(rho)})


def _check_factor(study: Study, factor: Factor) -> None:
    """Refuse an unfit family, unknown parents, and parents never recorded with their child."""
    known = dict(zip(study.condition_names, study.conditions))
    for parent in factor.parents:
        if parent not in known:
            raise StudyError(
                "unknown parent",
                field=f"model.{factor.members[0]}.given",
                found=repr(parent),
                expected=" | ".join(known),
                hint="Set condition_on_source under [train]" if parent == SOURCE else None,
            )
    if factor.family == JOINT:
        if not any(known[n].is_continuous for n in (*factor.members, *factor.parents)):
            raise StudyError(
                "a joint model needs a continuous covariate", field="model", found=", ".join(factor.members)
            )
        groups = [(member, parent) for member in factor.members for parent in factor.parents]
    else:
        variables = [variable_of(known[n]) for n in (*factor.members, *factor.parents)]
        check_family(
            factor.family, variables[0], tuple(variables[1:]), factor.components, tuple(factor.options)
        )
        groups = [(*factor.members, *factor.parents)]
    for group in groups:
        if not factor.family.startswith("analytic:") and not study.observed_together(*group):
            raise StudyError(
                "no source records this covariate together with its parents, so the relation cannot be"
                " learned",
                field=f"model.{group[0]}.given",
                found=", ".join(group[1:]),
                hint="Choose parents that a source records with it, or an analytic model",
            )


def _merge_rows(study: Study, factors: list[Factor]) -> list[Factor]:
    """Discrete covariates that the study calls empirical, given the same and recorded by the same sources,
    are drawn as whole rows."""
    groups: dict[tuple[Any, ...], list[Factor]] = {}
    out: list[Factor] = []
    for factor in factors:
        name = factor.members[0]
        told = study.models.get(name)
        if (
            factor.family == EMPIRICAL
            and told
            and told.family == EMPIRICAL
            and not study.covariate(name).is_continuous
        ):
            groups.setdefault((factor.parents, study.observers(name)), []).append(factor)
        else:
            out.append(factor)
    for (parents, _), group in groups.items():
        out.append(Factor(tuple(f.members[0] for f in group), parents, EMPIRICAL))
    return out


def _sorted(factors: list[Factor]) -> tuple[Factor, ...]:
    """Parents before children.

    Raises:
        StudyError: A cycle, spelled out.
    """
    done: set[str] = set()
    out: list[Factor] = []
    waiting = list(factors)
    while waiting:
        ready = [f for f in waiting if set(f.parents) <= done]
        if not ready:
            chain = _cycle(waiting)
            raise StudyError(
                "the covariate models form a cycle",
                field="model",
                found=" ← ".join(chain),
                hint="Remove one of these from given",
            )
        out += ready
        done |= {m for f in ready for m in f.members}
        waiting = [f for f in waiting if f not in ready]
    return tuple(out)


def _cycle(factors: list[Factor]) -> list[str]:
    owner = {m: f for f in factors for m in f.members}
    chain = [factors[0].members[0]]
    while chain[-1] not in chain[:-1]:
        chain.append(next(p for p in owner[chain[-1]].parents if p in owner))
    return chain[chain.index(chain[-1]) :]
