"""The content of a report, section by section, from a snapshot, its run and its evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.results import JOINT, REAL, Evaluation, Result
from mssg.report import figures as pictures
from mssg.report.elements import Block, Code, Heading, Notes, Picture, Table, Text, table
from mssg.study.values import training_range
from mssg.text import NONE, amount

if TYPE_CHECKING:
    from mssg.rendering.renderer import Renderer

Pairs = Sequence[tuple[np.ndarray, np.ndarray, float]]


@dataclass(frozen=True)
class Material:
    """What a report is made from.

    Attributes:
        name: What the user called the snapshot or run.
        renderer: Draws with it.
        evaluation: Its eval.json; None: the report has no numbers.
        stats: Rows of the run's stats.jsonl, oldest first.
        latents: Files of `mssg invert` whose counterfactuals are shown.
        galleries: Space of features -> most suspect pairs (generated, training image, ratio).
        commands: How to make everything again.
        missing: What could not be had, as sentences.
    """

    name: str
    renderer: Renderer
    evaluation: Evaluation | None = None
    stats: Sequence[Mapping[str, Any]] = ()
    latents: Sequence[Path] = ()
    galleries: Mapping[str, Pairs] = field(default_factory=dict)
    commands: Sequence[str] = ()
    missing: Sequence[str] = ()


def build(material: Material) -> list[Block]:
    """All sections of the report."""
    sections = (
        _opening,
        _data,
        _training,
        _drawn,
        _measured,
        _control,
        _strata,
        _counterfactuals,
        _memorisation,
        _utility,
        _limits,
        _provenance,
        _everything,
    )
    return [block for section in sections for block in section(material)]


def _opening(m: Material) -> Iterable[Block]:
    header = m.renderer.header
    study = header.study
    yield Heading(f"{study.name}: report on snapshot {header.snapshot_id}", 1)
    sources = " and ".join(s.name for s in study.sources)
    yield Text(
        f"A conditional generator of {study.resolution} × {study.resolution} images, trained on the"
        f" source{'s' * (len(study.sources) > 1)} {sources} for {header.progress.get('kimg', 0):g} thousand"
        " images. This report says what it was measured to do and where it fails. Values are in native"
        " units; intervals are 95 % bootstrap intervals."
    )
    if m.missing:
        yield Notes(tuple(m.missing), warn=True)
    if m.latents or m.galleries:
        yield Notes(
            (
                (
                    "This report shows real images (counterfactuals, nearest training images): handle it as"
                    " you handle the data."
                ),
            ),
            warn=True,
        )
    headline = list(_headline(m))
    if headline:
        yield table(("what", "measured", "to be judged by"), headline, "In short", left=3)


def _headline(m: Material) -> Iterable[tuple[str, str, str]]:
    """The few numbers one looks for first."""
    e, label = m.evaluation, _label(m)
    if e is None:
        return
    for r in (
        *e.find(metric="kid-", model=label, source=JOINT),
        *e.find(metric="fid-", model=label, source=JOINT),
    ):
        if r.stratum is None:
            yield (f"{_name(r)}, n = {r.n}", _value(r), f"real against real: {_floor(r)}")
    obeyed = e.find(metric="control/partial_r", model=label, design="b")
    varied = {r.covariate for r in obeyed}
    drawn = e.find(metric="control/partial_r", model=label, design="a")
    for r in (*(r for r in drawn if r.covariate not in varied), *obeyed):
        removed = ", ".join(r.detail.get("removed", ())) or "nothing"
        where = "" if r.source == JOINT else f", {_of_source(r)}"
        same = {"model": label, "design": r.design, "covariate": r.covariate, "source": r.source}
        beside = [
            f", {s} {_value(x)}" for s in ("slope", "bias") for x in e.find(metric=f"control/{s}", **same)
        ]
        yield (
            f"{r.covariate}{where}: partial correlation of asked and measured, n = {r.n}",
            _value(r),
            f"1 obeys, 0 ignores; {removed} removed{''.join(beside)}",
        )
    for r in e.results:
        if r.model != label:
            continue
        if r.metric.startswith("memorisation-"):
            yield (
                f"generated images nearer to a training image than expected ({r.features})",
                _percent(r),
                f"false alarms among real held-out images: {_percent_of(r.real_floor)}",
            )
        if r.metric == "counterfactual/effectiveness_mae":
            yield (
                f"counterfactual {r.covariate}: error of real images edited",
                _value(r),
                f"doing nothing: {_amount(r.detail.get('doing_nothing'), r)}",
            )


def _data(m: Material) -> Iterable[Block]:
    header, study = m.renderer.header, m.renderer.study
    counts = header.summary.get("sources", {})
    yield Heading("Study and data")
    rows = [
        (s.name, str(counts.get(s.name, {}).get("n", NONE)), ", ".join(s.observes)) for s in study.sources
    ]
    yield Table(
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


def _training(m: Material) -> Iterable[Block]:
    yield Heading("Training")
    if not m.stats:
        yield Text(
            "The training statistics are not at hand: the report was made from a snapshot alone, not from its"
            " run."
        )
        return
    last = m.stats[-1]
    yield Text(
        f"{last.get('kimg', 0):g} thousand images in {float(last.get('elapsed_sec', 0)) / 3600:.1f} hours;"
        f" {len(m.stats)} ticks."
    )
    if pictures.training(m.stats) is not None:
        yield Picture(
            lambda: pictures.training(m.stats),
            "Losses, the discriminator's scores, and what was measured during training.",
        )


def _drawn(m: Material) -> Iterable[Block]:
    yield Heading("What it draws")
    study = m.renderer.study
    sides = [c for c in study.covariates if c.is_continuous][:3]
    if len(sides) < 2:
        sides = list(study.covariates)[:2]
    classes = [c for c in study.covariates if c.kind == "categorical"][:1]
    for down, across in [
        *list(combinations(sides, 2))[:2],
        *((sides[0], c) for c in classes if c not in sides),
    ]:
        yield Picture(
            lambda a=down.name, b=across.name: pictures.grid(m.renderer, a, b),
            f"{down.name} by {across.name}, one seed; all other covariates at the training median or most"
            " frequent level.",
            width=0.6,
        )


def _measured(m: Material) -> Iterable[Block]:
    yield Heading("Measured: images as a set, and everything side by side")
    e = m.evaluation
    if e is None:
        yield Text("Nothing was measured yet: there is no eval.json. Make one with `mssg evaluate`.")
        return
    from mssg.metrics.tables import comparison

    found = comparison(e)
    apart = ("counterfactual", "memorisation", "utility", "control ")
    rows = [row for row in found.rows if not any(word in " ".join(row) for word in apart)]
    if not rows:
        yield Text("No distance between sets of images and no score was asked of `mssg evaluate`.")
        return
    yield Text(
        "Distances between sets of images are small where generated and real images are alike; they depend on"
        " the features, which the name carries, and are never zero: the last column is the same distance"
        " between two halves of the real images. KID leads on small sets."
    )
    yield Table(
        found.header, tuple(rows), f"Real images: {e.study}, {e.split} split, seed {e.seed}", found.left
    )


def _control(m: Material) -> Iterable[Block]:
    e, label = m.evaluation, _label(m)
    if e is None:
        return
    rows = [r for r in e.results if r.metric.startswith("control/") and r.model == label]
    if rows:
        from mssg.metrics.control_report import DESIGNS

        yield Heading("Does it do what is asked?")
        yield Text(
            "Where covariates depend on each other, the plain correlation of asked and measured proves"
            " little: obeying one covariate scores on the others. Design b with the shared covariates removed"
            " (partial r, slope) is the number to quote."
        )
        stats = list(dict.fromkeys(r.metric.split("/")[1] for r in rows))
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for r in rows:
            key = (r.design or NONE, r.covariate or NONE, _of_source(r), str(r.n))
            lines.setdefault(key, {})[r.metric.split("/")[1]] = _value(r)
        cells = [(*key, *(line.get(s, NONE) for s in stats)) for key, line in lines.items()]
        used = dict.fromkeys(key[0] for key in lines)
        caption = "; ".join(f"{d}: {DESIGNS[d]}" for d in used if d in DESIGNS)
        yield table(
            ("design", "covariate", "source", "n", *(CONTROL.get(s, s) for s in stats)),
            cells,
            caption,
            left=3,
        )
    leaks = [r for r in e.results if r.metric == "leakage" and r.model == label]
    if leaks:
        yield Heading("What else moves", 3)
        panels = {(r.model, r.source) for r in e.results if r.metric == "leakage"}
        yield Picture(
            lambda: pictures.leakage(e),
            "One covariate moved by one standard deviation (row): shift of each reading (column), in its"
            f" standard deviations. Off the diagonal, 0 is perfect. {max(r.n for r in leaks)} images.",
            width=min(1.0, 0.3 + 0.3 * len(panels)),
        )


def _strata(m: Material) -> Iterable[Block]:
    e = m.evaluation
    if e is None:
        return
    rows = [r for r in e.results if r.metric.startswith("strata/") and r.stratum is not None]
    if not rows:
        return
    yield Heading("By stratum")
    yield Text(
        "Real test images are cut into strata of their covariates; in each, images are drawn for its real"
        " images' covariates and read. `label` is the instrument's own error on the real images: no model can"
        " be expected below it."
    )
    for draw, caption in pictures.heatmaps(e):
        yield Picture(draw, caption)
    lines = [
        (
            _stratum(r),
            r.model,
            r.metric.split("/")[1],
            r.covariate or NONE,
            r.reference or NONE,
            _value(r),
            str(r.n),
            str(r.n_real or NONE),
        )
        for r in rows
    ]
    yield table(
        ("stratum", "model", "score", "covariate", "against", "value [95 %]", "n", "n real"),
        lines,
        "All strata",
        left=5,
        folded=True,
    )


def _counterfactuals(m: Material) -> Iterable[Block]:
    results = _of(m, "counterfactual/")
    if not results and not m.latents:
        return
    yield Heading("Counterfactuals of real images")
    yield Text(
        "A real image is explained as a latent of the generator plus a residual; one covariate is changed,"
        " everything else is held. Changing nothing (composition) and there and back (reversibility) are"
        " judged against another real image and against a stranger drawn with the same covariates;"
        " effectiveness against doing nothing and against the instrument's own error on real images."
    )
    kinds: tuple[tuple[str, str, Callable[[Result], tuple[str, ...]]], ...] = (
        (
            "composition",
            "distance to the image, grey levels",
            lambda r: (
                f"another image {_plain(r.detail.get('another_image'))}",
                f"stranger {_plain(r.detail.get('stranger'))}",
            ),
        ),
        (
            "effectiveness",
            "error, or share of hits",
            lambda r: (
                f"doing nothing {_plain(r.detail.get('doing_nothing'))}",
                f"instrument {_floor(r)}"
                + (f", slope {_plain(r.detail.get('slope'))}" if "slope" in r.detail else ""),
            ),
        ),
        (
            "reversibility",
            "distance to the image after there and back",
            lambda r: (
                f"changed image {_plain(r.detail.get('edited'))}",
                f"another image {_plain(r.detail.get('another_image'))}",
            ),
        ),
        (
            "minimality",
            "shift of a covariate that was held",
            lambda r: (
                f"another image {_plain(r.detail.get('another_image'))}",
                f"reconstruction {_plain(r.detail.get('reconstruction'))}",
            ),
        ),
        (
            "identity",
            "change, over the distance to a stranger with the same covariates",
            lambda r: ("a stranger 1", "unchanged 0"),
        ),
    )
    rows = []
    for kind, meaning, judged in kinds:
        for r in results:
            name = r.metric.split("/")[1]
            if name.startswith(kind):
                what = meaning + (f", {name.rsplit('_', 1)[1]} times" if kind == "composition" else "")
                rows.append(
                    (kind, r.moved or "nothing", r.covariate or "the image", what, _value(r), *judged(r))
                )
    if rows:
        n = max(r.n for r in results)
        yield table(
            ("axiom", "moved", "seen in", "what", "value [95 %]", "beside", "and"),
            rows,
            f"{n} real images of the {results[0].split} split",
            left=4,
        )
    for path in m.latents:
        yield Picture(
            lambda p=path: pictures.counterfactuals(m.renderer, p),
            "A real image's counterfactuals. Framed pictures ask for covariates outside what the training"
            " data support.",
        )


def _memorisation(m: Material) -> Iterable[Block]:
    results = _of(m, "memorisation-")
    if not results:
        return
    from mssg.metrics.memorisation import DISCLAIMER

    yield Heading("Memorisation")
    yield Text(
        "Every generated image's nearest training image, against its nearest real image that was not trained"
        " on. A ratio well below one is suspect; the threshold flags a known share of real held-out images,"
        " which are copies of nothing."
    )
    rows = [
        (
            r.features or NONE,
            f"{r.n}",
            _percent(r),
            _percent_of(r.real_floor),
            _plain(r.detail.get("threshold")),
            _plain(r.detail.get("median_ratio")),
            _plain(r.detail.get("relative_distance")),
        )
        for r in results
    ]
    yield table(
        (
            "seen in",
            "generated",
            "flagged [95 %]",
            "false alarms",
            "threshold",
            "median ratio",
            "distance / that of held-out",
        ),
        rows,
        f"Training images: {results[0].detail.get('n_train', NONE)}",
    )
    known, all_of_them = results[0].detail.get("n_train"), _trained_on(m)
    if known and all_of_them > known:
        yield Notes(
            (
                (
                    f"Only {known} of the {all_of_them} images it was trained on were at hand: copies of the"
                    " others are not found."
                ),
            ),
            warn=True,
        )
    yield Notes((DISCLAIMER + " What is not flagged may still reveal a training image.",), warn=True)
    for space, pairs in m.galleries.items():
        yield Picture(
            lambda p=pairs: pictures.pairs(p),
            f"The most suspect pairs in {space}: generated above, nearest training image below, with the"
            " ratio of distances.",
        )


def _utility(m: Material) -> Iterable[Block]:
    results = _of(m, "utility/")
    if not results:
        return
    yield Heading("Utility: train on generated, test on real")
    yield Text(
        "The same network is trained twice on as many images: generated ones (every covariate known, for it"
        " was asked for) and real ones (what each source records). Both are tested on real images neither has"
        " seen."
    )
    rows = [
        (
            r.covariate or NONE,
            "mean absolute error" if r.metric.endswith("mae") else "share right",
            _value(r),
            _amount(r.real_floor, r),
            _amount(r.detail.get("blind_guess"), r),
        )
        for r in results
    ]
    yield table(
        ("covariate", "score", "trained on generated [95 %]", "trained on real", "without seeing an image"),
        rows,
        f"{results[0].n} training images, {results[0].detail.get('architecture')}, at most"
        f" {results[0].detail.get('epochs')} epochs",
        left=2,
    )


def _limits(m: Material) -> Iterable[Block]:
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
    if m.evaluation and m.evaluation.notes:
        yield Heading("What the evaluation could not say, or says with care", 3)
        yield Notes(tuple(f"{n.about}: {n.message}" for n in m.evaluation.notes))


def _provenance(m: Material) -> Iterable[Block]:
    header = m.renderer.header
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
    if m.evaluation:
        versions = ", ".join(f"{k} {v}" for k, v in m.evaluation.versions.items())
        rows.append(("evaluated with", f"{versions}; seed {m.evaluation.seed}"))
    yield table(("what", ""), rows, left=2)
    if m.commands:
        yield Code("\n".join(m.commands))


def _everything(m: Material) -> Iterable[Block]:
    e = m.evaluation
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
            _stratum(r),
            _value(r),
            str(r.n),
            _floor(r),
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


# Words and numbers

CONTROL = {"r": "r [95 %]", "partial_r": "partial r [95 %]", "mae": "MAE"}
"""How the control table calls its columns, where not as the file does."""


def _label(m: Material) -> str:
    """How the evaluation calls the snapshot of this report."""
    models = m.evaluation.models if m.evaluation else ()
    return next((x.label for x in models if x.snapshot == m.renderer.header.snapshot_id), "")


def _trained_on(m: Material) -> int:
    """Training images of all sources, as the snapshot counts them."""
    return sum(int(s.get("n", 0)) for s in m.renderer.header.summary.get("sources", {}).values())


def _of_source(r: Result) -> str:
    """Whose images a control result is of, and whether that source taught the covariate."""
    return (
        "all"
        if r.source == JOINT
        else r.source + ("" if r.detail.get("recorded", True) else " (never recorded)")
    )


def _of(m: Material, prefix: str) -> list[Result]:
    label = _label(m)
    return [
        r
        for r in (m.evaluation.results if m.evaluation else ())
        if r.metric.startswith(prefix) and r.model == label
    ]


def _name(r: Result) -> str:
    return r.metric.replace("kid-", "KID, ").replace("fid-", "FID, ") if r.model != REAL else r.metric


def _plain(value: Any) -> str:
    """Three significant digits, without exponents where a person reads it."""
    if value is None or not isinstance(value, int | float) or not math.isfinite(value):
        return NONE
    if abs(value) < 1e-5:
        return "0"
    if abs(value) < 0.001:
        return f"{value:.1e}"
    return amount(value) if abs(value) >= 1 else f"{value:.3f}"


def _amount(value: Any, r: Result) -> str:
    text = _plain(value)
    return text if text == NONE or not r.unit else text + (r.unit if r.unit in ("°", "%") else f" {r.unit}")


def _value(r: Result) -> str:
    if r.value is None:
        return NONE
    if r.ci95:
        return f"{_amount(r.value, r)} [{_plain(r.ci95[0])}, {_plain(r.ci95[1])}]"
    return _amount(r.value, r) + (f" ± {_plain(r.sd)}" if r.sd is not None else "")


def _floor(r: Result) -> str:
    return _amount(r.real_floor, r)


def _percent_of(share: float | None) -> str:
    return NONE if share is None else f"{100 * share:.1f} %"


def _percent(r: Result) -> str:
    interval = f" [{100 * r.ci95[0]:.1f}, {100 * r.ci95[1]:.1f}]" if r.ci95 else ""
    return _percent_of(r.value) + interval


def _stratum(r: Result) -> str:
    if r.stratum is None:
        return ""
    parts = [
        f"{k} {v[0]:.3g} to {v[1]:.3g}" if isinstance(v, list | tuple) else f"{k} {v}"
        for k, v in r.stratum.items()
    ]
    return ", ".join(parts)
