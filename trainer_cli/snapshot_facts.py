"""What a snapshot says of itself, as words: for `mssg inspect` and for model cards."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mssg.checkpoint.header import Header
    from mssg.study.covariate import Covariate
    from mssg.study.model import Study


def images(study: Study) -> str:
    """Size, channels and plane of the pictures."""
    text = f"{study.resolution} x {study.resolution}, {'1 channel' if study.channels == 1 else '3 channels'}"
    if study.geometry:
        text += f", {study.geometry.plane}, {study.geometry.pixel_mm:g} mm a pixel"
    return text


def generator(header: Header) -> str:
    """Kind and widths of the generator."""
    g = header.generator
    return (
        f"{g.get('kind', 'unknown')}, z {g.get('z_dim')}, w {g.get('w_dim')}, condition"
        f" {header.study.layout.width} columns"
    )


def trained(header: Header) -> str:
    """For how long it was trained, with which seed, and by which versions."""
    versions = header.provenance.get("versions", {})
    if header.provenance.get("imported"):
        return f"by the official tools, how long is not known; imported by mssg {versions.get('mssg', '?')}"
    parts = [f"{header.progress.get('kimg', 0):g} kimg", f"seed {header.provenance.get('seed', '?')}"]
    parts += [f"{name} {versions[name]}" for name in ("mssg", "torch") if name in versions]
    if header.provenance.get("git"):
        parts.append(f"commit {header.provenance['git']}")
    return ", ".join(parts)


def count(header: Header, source: str) -> int:
    """How many training images a source had; 0 where the snapshot does not say."""
    return int(header.summary.get("sources", {}).get(source, {}).get("n", 0))


def covariate_row(header: Header, covariate: Covariate) -> list[str]:
    """A covariate as cells: name, kind, 5 % quantile, median or most frequent level, 95 % quantile, sources
    that record it, and model."""
    from mssg.errors import UsageError
    from mssg.study.values import training_range

    if covariate.is_continuous:
        try:
            low, high = training_range(covariate, header.summary)
            middle = training_range(covariate, header.summary, 0.5, 0.5)[0]
            values = [covariate.format(v) for v in (low, middle, high)]
        except UsageError:
            values = ["–"] * 3
    else:
        values = ["", _mode(header, covariate), ""]
    models = header.models
    given = models.parents(covariate.name)
    model = models.family(covariate.name) + (f" given {', '.join(given)}" if given else "")
    return [covariate.name, covariate.kind, *values, ", ".join(header.study.observers(covariate.name)), model]


def _mode(header: Header, covariate: Covariate) -> str:
    counts = (
        header.summary.get("covariates", {}).get(covariate.name, {}).get("histogram", {}).get("counts", [])
    )
    total = sum(counts)
    if not total:
        return "–"
    best = max(range(len(counts)), key=counts.__getitem__)
    return f"{covariate.format(float(best))} ({100 * counts[best] / total:.0f} %)"
