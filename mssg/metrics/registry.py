"""All metrics there are: every file of `mssg/metrics/groups` declares its own."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from mssg.errors import UsageError
from mssg.metrics import groups
from mssg.metrics.metric import Metric
from mssg.metrics.settings import EvaluationOptions, Settings


@functools.cache
def all_metrics() -> Mapping[str, Metric]:
    """Name -> metric, in the order of lists and results."""
    modules = [
        importlib.import_module(f"{groups.__name__}.{m.name}") for m in pkgutil.iter_modules(groups.__path__)
    ]
    found = [metric for module in modules for metric in module.METRICS]
    found.sort(key=lambda metric: (metric.place, metric.name))
    names = [metric.name for metric in found]
    assert len(set(names)) == len(names), "two metrics have one name"
    return dict(zip(names, found))


def default_metrics() -> tuple[str, ...]:
    """What is computed where nobody chooses."""
    return tuple(metric.name for metric in all_metrics().values() if metric.default)


def chosen(names: Iterable[str]) -> list[Metric]:
    """The metrics of these names, in the order of results.

    Raises:
        UsageError: No such metric.
    """
    names, known = set(names), all_metrics()
    unknown = sorted(names - set(known))
    if unknown:
        raise UsageError(
            "no such metric", field="--metrics", found=", ".join(unknown), expected=" | ".join(known)
        )
    return [metric for name, metric in known.items() if name in names]


def all_settings() -> list[type[Settings]]:
    """Classes of choices that metrics take, each once."""
    return list(dict.fromkeys(kind for metric in all_metrics().values() for kind in metric.settings))


def options(metrics: Iterable[str] | None = None, seed: int = 0, **choices: Any) -> EvaluationOptions:
    """What to compute, from names and plain values.

    Args:
        metrics: Names; None: the default ones.
        choices: By the name of the field, such as `control_images=100`; the rest has its default.

    Raises:
        UsageError: No such metric or choice.
    """
    names = default_metrics() if metrics is None else tuple(dict.fromkeys(metrics))
    chosen(names)
    settings = {}
    for kind in all_settings():
        own = [f.name for f in fields(kind) if f.name in choices]
        settings[kind] = kind(**{name: choices.pop(name) for name in own})
    if choices:
        raise UsageError("no metric takes this", field=", ".join(choices))
    return EvaluationOptions(names, seed, settings)
