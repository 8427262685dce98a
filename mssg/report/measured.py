"""The appendix of a report: the numbers of its evaluation, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mssg.metrics.memorisation import DISCLAIMER
from mssg.metrics.results import Result
from mssg.metrics.tables import INSTRUMENT, comparison
from mssg.report import words
from mssg.report.contents import ReportContents
from mssg.report.elements import Block, Heading, NewPage, Notes, TableBlock, Text, table
from mssg.text import NONE, amount, percent


def measured(contents: ReportContents) -> Iterable[Block]:
    """Distances between sets of images, and all models side by side; nothing without an evaluation."""
    e = contents.evaluation
    if e is None:
        return
    yield NewPage()
    yield Heading("Appendix: images as a set, and everything side by side")
    found = comparison(e)
    instruments = ("strata ", "overall ", "counterfactual", "memorisation", "utility", "control ")
    rows = tuple(row for row in found.rows if not row[0].startswith(instruments))
    if rows:
        yield Text(
            "Distances between sets of images are small where generated and real images are alike; they"
            " depend"
            " on the features, which the name carries, and are never zero: the last column is the same"
            " distance between two halves of the real images. KID leads on small sets."
        )
        columns = len(found.header) - (found.header[-1] == INSTRUMENT)
        header, rows = found.header[:columns], tuple(row[:columns] for row in rows)
        about = f"Real images: {e.study}, {e.split} split, seed {e.seed}"
        yield TableBlock(header, rows, about, found.left)
    yield TableBlock(found.header, found.rows, "All models side by side", found.left, folded=True)


def control(contents: ReportContents) -> Iterable[Block]:
    """What the designs of the control measure found; nothing without an evaluation."""
    e, label = contents.evaluation, contents.label
    if e is None:
        return
    rows = [r for r in e.results if r.metric.startswith("control/") and r.model == label]
    if rows:
        from mssg.metrics.control_report import DESIGNS

        yield Heading("Appendix: control")
        yield Text(
            "Where covariates depend on each other, the plain correlation of asked and measured proves"
            " little: obeying one covariate scores on the others. Design b with the shared covariates removed"
            " (partial r, slope) is the number to quote."
        )
        stats = list(dict.fromkeys(r.metric.split("/")[1] for r in rows))
        lines: dict[tuple[str, ...], dict[str, str]] = {}
        for r in rows:
            key = (r.design or NONE, r.covariate or NONE, words.of_source(r), words.instrument(r), str(r.n))
            lines.setdefault(key, {})[r.metric.split("/")[1]] = words.value(r)
        cells = [(*key, *(line.get(s, NONE) for s in stats)) for key, line in lines.items()]
        used = dict.fromkeys(key[0] for key in lines)
        caption = "; ".join(f"{d}: {DESIGNS[d]}" for d in used if d in DESIGNS)
        yield table(
            (
                "design",
                "covariate",
                "source",
                "instrument on real images",
                "n",
                *(words.CONTROL.get(s, s) for s in stats),
            ),
            cells,
            caption,
            left=4,
        )


AXIOMS = {
    "composition": "distance to the image, grey levels",
    "effectiveness": "error, or share of hits",
    "reversibility": "distance to the image after there and back",
    "minimality": "shift of a covariate that was held",
    "identity": "change, over the distance to a stranger with the same covariates",
}
"""What the number of each axiom is, in the order of the table."""


def _judged_by(axiom: str, r: Result) -> tuple[str, str]:
    """What a result on counterfactuals is to be compared with."""
    another = f"another image {words.detail(r, 'another_image')}"
    match axiom:
        case "composition":
            return another, f"stranger {words.detail(r, 'stranger')}"
        case "effectiveness":
            slope = f", slope {words.detail(r, 'slope')}" if "slope" in r.detail else ""
            return f"doing nothing {words.detail(r, 'doing_nothing')}", f"instrument {words.floor(r)}{slope}"
        case "reversibility":
            return f"changed image {words.detail(r, 'edited')}", another
        case "minimality":
            return another, f"reconstruction {words.detail(r, 'reconstruction')}"
    return "a stranger 1", "unchanged 0"


def _axiom_row(axiom: str, r: Result) -> tuple[str, ...]:
    """A result as a line of the table of counterfactuals."""
    times = f", {r.metric.rsplit('_', 1)[1]} times" if axiom == "composition" else ""
    seen, judged = r.covariate or "the image", _judged_by(axiom, r)
    return (axiom, r.moved or "nothing", seen, AXIOMS[axiom] + times, words.value(r), *judged)


def counterfactuals(contents: ReportContents) -> Iterable[Block]:
    """How far real images keep what makes them who they are when a covariate is changed."""
    results = contents.results("counterfactual/")
    if not results:
        return
    yield Heading("Appendix: counterfactuals")
    yield Text(
        "A real image is explained as a latent of the generator plus a residual; one covariate is changed,"
        " everything else is held. Changing nothing (composition) and there and back (reversibility) are"
        " judged against another real image and against a stranger drawn with the same covariates;"
        " effectiveness against doing nothing and against the instrument's own error on real images."
    )
    rows = [
        _axiom_row(axiom, r)
        for axiom in AXIOMS
        for r in results
        if r.metric.startswith(f"counterfactual/{axiom}")
    ]
    if rows:
        n = max(r.n for r in results)
        yield table(
            ("axiom", "moved", "seen in", "what", "value [95 %]", "beside", "and"),
            rows,
            f"{n} real images of the {results[0].split} split",
            left=4,
        )


SCREEN = (
    "seen in",
    "generated",
    "flagged [95 %]",
    "false alarms",
    "threshold",
    "median ratio",
    "distance / that of held-out",
)
"""Columns of the table on memorisation."""


def memorisation(contents: ReportContents) -> Iterable[Block]:
    """Whether generated images are copies of training images."""
    results = contents.results("memorisation-")
    if not results:
        return

    yield Heading("Appendix: memorisation")
    yield Text(
        "Every generated image's nearest training image, against its nearest real image that was not trained"
        " on. A ratio well below one is suspect; the threshold flags a known share of real held-out images,"
        " which are copies of nothing."
    )
    rows = [
        (
            r.features or NONE,
            f"{r.n}",
            words.share(r),
            percent(r.real_floor),
            words.detail(r, "threshold"),
            words.detail(r, "median_ratio"),
            words.detail(r, "relative_distance"),
        )
        for r in results
    ]
    yield table(SCREEN, rows, f"Training images: {results[0].detail.get('n_train', NONE)}")
    yield from _memorisation_limits(contents, results)


def _memorisation_limits(contents: ReportContents, results: Sequence[Result]) -> Iterable[Block]:
    """What a screen for copies cannot say."""
    known, trained_on = results[0].detail.get("n_train"), contents.trained_on
    if known and trained_on > known:
        few = f"Only {known} of the {trained_on} images it was trained on were at hand: copies of the others"
        yield Notes((f"{few} are not found.",), warn=True)
    yield Notes((DISCLAIMER + " What is not flagged may still reveal a training image.",), warn=True)


def utility(contents: ReportContents) -> Iterable[Block]:
    """What a predictor learns from generated images."""
    results = contents.results("utility/")
    if not results:
        return
    yield Heading("Appendix: utility, train on generated, test on real")
    yield Text(
        "The same network is trained twice on as many images: generated ones (every covariate known, for it"
        " was asked for) and real ones (what each source records). Both are tested on real images neither has"
        " seen."
    )
    rows = [
        (
            r.covariate or NONE,
            "mean absolute error" if r.metric.endswith("mae") else "share right",
            words.value(r),
            amount(r.real_floor, r.unit),
            words.detail(r, "blind_guess", unit=True),
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
