"""The content of a report, section by section, from a snapshot, its run and its evaluation."""

from __future__ import annotations

from collections.abc import Iterable

from mssg.errors import UsageError
from mssg.report import measured, pictures, words
from mssg.report.contents import ReportContents
from mssg.report.elements import Block, Code, Heading, NewPage, Notes, TableBlock, Text, table
from mssg.report.verdicts import RULES, verdicts
from mssg.study.values import training_range
from mssg.text import NONE


def build(contents: ReportContents) -> list[Block]:
    """All of the report: a page of verdicts, pictures, what it was made from, all numbers."""
    sections = (
        _opening,
        _verdicts,
        pictures.asked_and_read,
        pictures.strata,
        pictures.side_effects,
        pictures.nearest,
        pictures.grids,
        pictures.counterfactuals,
        pictures.training,
        _data,
        _limits,
        _provenance,
        measured.measured,
        measured.control,
        measured.counterfactuals,
        measured.memorisation,
        measured.utility,
        _everything,
    )
    return [block for section in sections for block in section(contents)]


def _opening(contents: ReportContents) -> Iterable[Block]:
    header = contents.renderer.header
    study = header.study
    yield Heading(f"{study.name}: report on snapshot {header.snapshot_id}", 1)
    sources = " and ".join(s.name for s in study.sources)
    yield Text(
        f"A conditional generator of {study.resolution} × {study.resolution} images, trained on the"
        f" source{'s' * (len(study.sources) > 1)} {sources} for {header.progress.get('kimg', 0):g} thousand"
        " images. This report says what it was measured to do and where it fails. Values are in native"
        " units; intervals are 95 % bootstrap intervals."
    )
    warnings = list(contents.missing)
    if contents.latents or contents.galleries:
        warnings.append(
            "This report shows real images (counterfactuals, nearest training images): handle it as you"
            " handle"
            " the data."
        )
    if warnings:
        yield Notes(tuple(warnings), warn=True)


def _verdicts(contents: ReportContents) -> Iterable[Block]:
    yield Heading("Verdicts")
    yield from verdicts(contents)
    yield Text(RULES, small=True)
    yield NewPage()


def _data(contents: ReportContents) -> Iterable[Block]:
    header, study = contents.renderer.header, contents.renderer.study
    counts = header.summary.get("sources", {})
    yield Heading("Study and data")
    rows = [
        (s.name, str(counts.get(s.name, {}).get("n", NONE)), ", ".join(s.observes)) for s in study.sources
    ]
    yield TableBlock(
        ("source", "training images", "records"), tuple((a, b, c) for a, b, c in rows), "Sources", left=3
    )
    rows = []
    for c in study.covariates:
        span = NONE
        if c.is_continuous:
            try:
                low, high = training_range(c, header.summary)
                span = f"{c.format(low)} to {c.format(high)}"
            except UsageError:
                pass
        else:
            span = ", ".join(c.levels) or "no, yes"
        given = header.models.parents(c.name)
        model = header.models.family(c.name) + (f" given {', '.join(given)}" if given else "")
        rows.append((c.name, c.kind, ", ".join(study.observers(c.name)), model, span))
    yield table(
        ("covariate", "kind", "recorded by", "modelled by", "training 5 to 95 %, or levels"),
        rows,
        "Covariates",
        left=5,
    )
    apart = study.unseen_pairs
    if apart:
        pairs = ", ".join(f"{a} and {b}" for a, b in apart)
        yield Notes(
            (
                (
                    f"No source records these together: {pairs}. How they depend on each other beyond what"
                    " the sources share is an assumption of the covariate model, not a finding."
                ),
            )
        )


def _limits(contents: ReportContents) -> Iterable[Block]:
    yield Heading("Limits")
    own = [
        "Not for diagnosis, treatment or any decision about a person.",
        (
            "Images show associations in the training data, not effects of a cause; the selection of the"
            " sources is theirs too. A counterfactual image is what this model would draw, not what would"
            " happen to a person."
        ),
        "Outside the training ranges, and for combinations the data do not hold, images are extrapolation.",
        "One snapshot was measured; other seeds of training differ.",
    ]
    yield Notes(tuple(own))
    if contents.evaluation and contents.evaluation.notes:
        yield Heading("What the evaluation could not say, or says with care", 3)
        yield Notes(tuple(f"{n.about}: {n.message}" for n in contents.evaluation.notes))


def _provenance(contents: ReportContents) -> Iterable[Block]:
    header = contents.renderer.header
    yield Heading("Provenance, and how to make this again")
    versions = ", ".join(f"{k} {v}" for k, v in dict(header.provenance.get("versions", {})).items())
    rows = [
        ("snapshot", f"{header.path.name}, SHA-256 {header.snapshot_id}…"),
        (
            "trained with",
            (
                f"{versions}; seed {header.provenance.get('seed', NONE)}; commit"
                f" {header.provenance.get('git') or NONE}"
            ),
        ),
        ("training command", str(header.provenance.get("command") or "not recorded")),
    ]
    if contents.evaluation:
        versions = ", ".join(f"{k} {v}" for k, v in contents.evaluation.versions.items())
        rows.append(("evaluated with", f"{versions}; seed {contents.evaluation.seed}"))
    yield table(("what", ""), rows, left=2)
    if contents.commands:
        yield Code("\n".join(contents.commands))


def _everything(contents: ReportContents) -> Iterable[Block]:
    e = contents.evaluation
    if e is None:
        return
    rows = [
        (
            r.metric,
            r.model,
            r.source,
            r.covariate or "",
            r.moved or "",
            r.design or r.reference or "",
            words.stratum(r),
            words.value(r),
            str(r.n),
            words.floor(r),
            words.instrument(r) if r.own else "",
        )
        for r in e.results
    ]
    yield Heading("Every number")
    yield Text(f"All {len(rows)} results are in a table of comma-separated values beside this report, too.")
    yield table(
        (
            "metric",
            "model",
            "source",
            "covariate",
            "moved",
            "design, or against",
            "stratum",
            "value [95 %]",
            "n",
            "real floor",
            "instrument on real images",
        ),
        rows,
        "All results",
        left=7,
        folded=True,
    )
