"""The content of a report, section by section, from a snapshot, its run and its evaluation."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations

from mssg.errors import UsageError
from mssg.metrics.results import JOINT, Result
from mssg.report import figures as pictures
from mssg.report import measured, words
from mssg.report.contents import ReportContents
from mssg.report.elements import Block, Code, FigureBlock, Heading, Notes, TableBlock, Text, table
from mssg.study.values import training_range
from mssg.text import NONE, duration, percent


def build(contents: ReportContents) -> list[Block]:
    """All sections of the report."""
    sections = (
        _opening,
        _data,
        _training,
        _drawn,
        measured.measured,
        measured.control,
        measured.strata,
        measured.counterfactuals,
        measured.memorisation,
        measured.utility,
        _limits,
        _provenance,
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
    if contents.missing:
        yield Notes(tuple(contents.missing), warn=True)
    if contents.latents or contents.galleries:
        yield Notes(
            (
                (
                    "This report shows real images (counterfactuals, nearest training images): handle it as"
                    " you handle the data."
                ),
            ),
            warn=True,
        )
    headline = list(_headline(contents))
    if headline:
        yield table(("what", "measured", "to be judged by"), headline, "In short", left=3)


def _headline(contents: ReportContents) -> Iterable[tuple[str, str, str]]:
    """The few numbers one looks for first."""
    for r in (*contents.results("kid-"), *contents.results("fid-")):
        if r.stratum is None and r.source == JOINT:
            name = f"{words.distance_name(r)}, n = {r.n}"
            yield name, words.value(r), f"real against real: {words.floor(r)}"
    obeyed = contents.results("control/partial_r")
    varied = {r.covariate for r in obeyed if r.design == "b"}
    for r in obeyed:
        if r.design == "a" and r.covariate not in varied:
            yield _obedience(contents, r)
    for r in obeyed:
        if r.design == "b":
            yield _obedience(contents, r)
    for r in contents.results(""):
        if r.metric.startswith("memorisation-"):
            yield (
                f"generated images nearer to a training image than expected ({r.features})",
                words.share(r),
                f"false alarms among real held-out images: {percent(r.real_floor)}",
            )
        if r.metric == "counterfactual/effectiveness_mae":
            yield (
                f"counterfactual {r.covariate}: error of real images edited",
                words.value(r),
                f"doing nothing: {words.detail(r, 'doing_nothing', unit=True)}",
            )


def _obedience(contents: ReportContents, r: Result) -> tuple[str, str, str]:
    """A partial correlation, with what was removed, and slope and bias beside it."""
    removed = ", ".join(r.detail.get("removed", ())) or "nothing"
    where = "" if r.source == JOINT else f", {words.of_source(r)}"
    about = (r.design, r.covariate, r.source)
    beside = [
        f", {stat} {words.value(x)}"
        for stat in ("slope", "bias")
        for x in contents.results(f"control/{stat}")
        if (x.design, x.covariate, x.source) == about
    ]
    what = f"{r.covariate}{where}: partial correlation of asked and measured, n = {r.n}"
    return what, words.value(r), f"1 obeys, 0 ignores; {removed} removed{''.join(beside)}"


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


def _training(contents: ReportContents) -> Iterable[Block]:
    yield Heading("Training")
    if not contents.stats:
        yield Text(
            "The training statistics are not at hand: the report was made from a snapshot alone, not from its"
            " run."
        )
        return
    last = contents.stats[-1]
    took = duration(float(last.get("elapsed_sec", 0)))
    yield Text(f"{last.get('kimg', 0):g} thousand images in {took}; {len(contents.stats)} ticks.")
    if pictures.training(contents.stats) is not None:
        yield FigureBlock(
            lambda: pictures.training(contents.stats),
            "Losses, the discriminator's scores, and what was measured during training.",
        )


def _drawn(contents: ReportContents) -> Iterable[Block]:
    yield Heading("What it draws")
    study = contents.renderer.study
    sides = [c for c in study.covariates if c.is_continuous][:3]
    if len(sides) < 2:
        sides = list(study.covariates)[:2]
    classes = [c for c in study.covariates if c.kind == "categorical"][:1]
    for down, across in [
        *list(combinations(sides, 2))[:2],
        *((sides[0], c) for c in classes if c not in sides),
    ]:
        yield FigureBlock(
            lambda a=down.name, b=across.name: pictures.grid(contents.renderer, a, b),
            f"{down.name} by {across.name}, one seed; all other covariates at the training median or most"
            " frequent level.",
            width=0.6,
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
        )
        for r in e.results
    ]
    yield Heading("Every number")
    yield Text(f"All {len(rows)} results, as in the eval.json beside this report.")
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
        ),
        rows,
        "All results",
        left=7,
        folded=True,
    )
