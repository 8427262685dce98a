"""The first page of a report: what was found, in words, each beside what measured it."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mssg.metrics.memorisation import DISCLAIMER, verdict
from mssg.metrics.results import JOINT, REAL, Result, is_oracle
from mssg.report import words
from mssg.report.contents import ReportContents
from mssg.report.elements import Answer, Verdict
from mssg.text import amount, number, percent

OBEYED, IN_PART = 0.8, 0.3
"""Partial correlation, over what the instrument can show, from which a covariate is obeyed, and in part."""
SLOPES = (0.67, 1.5)
"""Slope, over the instrument's own, between which a covariate is obeyed."""
SIDE_EFFECT, LARGE_SIDE_EFFECT = 0.1, 0.3
"""Standard deviations another reading moves by, for one of the covariate that is moved."""
NEAR, FAR = 0.2, 0.5
"""Error beyond the instrument's own, over a constant guess's, up to which it is small, and moderate."""
ASTRAY = 3.0
"""Error of generated pictures, over a constant guess's, beyond which readings say nothing."""
GUESS = 0.8
"""Mean absolute error of a constant guess, in standard deviations of a normal distribution."""
RULES = (
    f"Obeyed: partial correlation at least {OBEYED} and slope {SLOPES[0]} to {SLOPES[1]}, each over the most"
    f" that the instrument can show; in part: at least {IN_PART}. Side effects: up to {SIDE_EFFECT} sd is"
    f" none, above {LARGE_SIDE_EFFECT} sd is large. Errors beyond the instrument's own: up to {NEAR} of a"
    f" constant"
    f" guess's are small, above {FAR} large. No verdict rests on an instrument that reads real images no"
    " better than a constant guess, or whose readings of generated pictures are off by more than"
    f" {ASTRAY:g} times a constant guess's error."
)
"""What the words mean, for the foot of the page."""


def verdicts(contents: ReportContents) -> Iterator[Verdict]:
    """All verdicts, the most looked for first; what was not measured says how to."""
    if contents.evaluation is None:
        yield Verdict(
            Answer.UNKNOWN,
            "Nothing was measured",
            "There is no eval.json: make one with `mssg evaluate`, and this report again with --evaluation.",
        )
        return
    parts = (
        (_obedience, "Does it do what is asked?", "control"),
        (_side_effects, "What else moves?", "leakage"),
        (_strata, "How well within groups of similar people?", "strata"),
        (_likeness, "Do the pictures look real?", "kid"),
        (_copies, "Are training images copied?", "memorisation"),
        (_counterfactuals, "Can real images be edited?", "counterfactual"),
        (_use, "Are the pictures of use?", "utility"),
    )
    unmeasured = []
    for part, question, metric in parts:
        found = list(part(contents))
        yield from found
        if not found:
            unmeasured.append((question, metric))
    if unmeasured:
        names = ",".join(metric for _, metric in unmeasured)
        asked = " ".join(f"{question.rstrip('?.')}?" for question, _ in unmeasured)
        yield Verdict(
            Answer.UNKNOWN, "Not measured", f"{asked} `mssg evaluate --metrics {names} --add` says it."
        )


def _own(contents: ReportContents, r: Result) -> str:
    """What read it, and what that is worth. Older files hold its error, but no guess beside it."""
    if r.own:
        return f"{r.instrument}; on real images: {r.own.words()}"
    e, parts = contents.evaluation, {"model": REAL, "covariate": r.covariate, "source": JOINT}
    known = [
        f"{name} {words.value(x)}, n = {x.n}"
        for name in ("MAE", "pearson", "accuracy")
        for x in (e.find(metric=f"overall/{name.lower()}", **parts) if e else ())
    ]
    error = f"on real images {'; '.join(known)}; " if known else ""
    return f"{r.instrument}; {error}this evaluation holds no guess beside its error: make it again"


def _usable(r: Result) -> bool:
    """Whether a verdict may rest on it: older files do not say what a predictor is worth."""
    return not r.doubtful and (r.own is not None or is_oracle(r.instrument))


def headline(contents: ReportContents) -> list[Result]:
    """The results on control to quote: for each covariate and source design b where it was varied given the
    others, else a; hits where there is no correlation."""
    chosen: dict[tuple[str | None, str], Result] = {}
    for metric in ("control/partial_r", "control/accuracy"):
        for design in ("b", "a"):
            for r in contents.results(metric):
                if r.design == design and r.value is not None:
                    chosen.setdefault((r.covariate, r.source), r)
    return list(chosen.values())


def _obedience(contents: ReportContents) -> Iterator[Verdict]:
    for r in headline(contents):
        name = f"{r.covariate}" + ("" if r.source == JOINT else f", {words.of_source(r)}")
        if not _usable(r):
            worse = (
                "reads real images no better than a constant guess" if r.own else "is not known to read well"
            )
            text = f"What reads it {worse}, so the numbers say nothing about the generator."
            yield Verdict(Answer.UNKNOWN, f"{name}: cannot be said", text, _own(contents, r))
        elif r.metric == "control/accuracy":
            yield _hits(contents, r, name)
        else:
            yield _follows(contents, r, name)


def _hits(contents: ReportContents, r: Result, name: str) -> Verdict:
    """Of a covariate whose levels have no order."""
    value, guess = r.value or 0.0, r.own.guess_accuracy if r.own else math.nan
    most = r.own.accuracy if r.own and math.isfinite(r.own.accuracy) else 1.0
    answer = Answer.YES if value >= 0.9 * most else Answer.NO if value <= guess else Answer.PARTLY
    text = f"{percent(value)} of {r.n} pictures are read as the level that was asked for."
    return Verdict(answer, f"{name}: {_OBEYS[answer]}", text, _own(contents, r))


_OBEYS = {Answer.YES: "obeyed", Answer.PARTLY: "obeyed in part", Answer.NO: "not obeyed"}


def _follows(contents: ReportContents, r: Result, name: str) -> Verdict:
    """Of a covariate that goes up and down."""
    stats = {
        stat: x
        for stat in ("slope", "bias", "mae")
        for x in contents.results(f"control/{stat}")
        if (x.design, x.covariate, x.source) == (r.design, r.covariate, r.source)
    }
    own = r.own
    error = stats["mae"].value if "mae" in stats else None
    if error is not None and own and error > ASTRAY * own.guess_mae:
        text = (
            f"What is read off the pictures is off by {amount(error, own.unit)} on average, a constant"
            f" guess by {amount(own.guess_mae, own.unit)}. So far out nobody knows the instrument's worth:"
            " the pictures are unlike the real ones it was tested on, and correlations say nothing."
        )
        return Verdict(Answer.UNKNOWN, f"{name}: cannot be said", text, _own(contents, r))
    most = own.r if own and own.r > 0 and own.better else 1.0
    low = r.ci95[0] if r.ci95 and r.ci95[0] is not None else r.value or 0.0
    reached = low / most
    slope = stats["slope"].value if "slope" in stats else None
    moves = (slope if slope is not None else 1.0) / (own.slope if own and own.slope > 0 else 1.0)
    obeyed = reached >= OBEYED and SLOPES[0] <= moves <= SLOPES[1]
    answer = Answer.YES if obeyed else Answer.PARTLY if reached >= IN_PART else Answer.NO
    removed = ", ".join(r.detail.get("removed", ()))
    parts = [f"Partial correlation of asked and read {words.value(r)}"]
    parts[0] += f", {removed} removed" if removed else ""
    if slope is not None:
        shown = f", on real images {number(own.slope)}" if own and math.isfinite(own.slope) else ""
        parts.append(f"slope {number(slope)}{shown}")
    if "bias" in stats:
        parts.append(f"bias {words.value(stats['bias'])}")
    return Verdict(answer, f"{name}: {_OBEYS[answer]}", f"{'; '.join(parts)}; n = {r.n}.", _own(contents, r))


def _side_effects(contents: ReportContents) -> Iterator[Verdict]:
    leaks = [r for r in contents.results("leakage") if r.value is not None and r.moved != r.covariate]
    found = [r for r in leaks if _usable(r) and r.unit == "sd"]
    if not found:
        return
    worst = max(found, key=lambda r: abs(r.value or 0.0))
    size = abs(worst.value or 0.0)
    answer = Answer.YES if size <= SIDE_EFFECT else Answer.PARTLY if size <= LARGE_SIDE_EFFECT else Answer.NO
    title = {Answer.YES: "no side effects", Answer.PARTLY: "small side effects", Answer.NO: "side effects"}[
        answer
    ]
    where = "" if worst.source == JOINT else f" ({worst.source})"
    text = (
        f"Moving {worst.moved} by one standard deviation and holding all else moves the reading of"
        f" {worst.covariate}{where} by {number(size)} of its own: the largest of {len(found)}; n = {worst.n}."
    )
    yield Verdict(answer, f"What else moves: {title}", text, _own(contents, worst))


def _strata(contents: ReportContents) -> Iterator[Verdict]:
    whole = [
        r
        for r in contents.results("strata/mae")
        if r.stratum is None and r.reference == "requested" and r.value is not None and _usable(r)
    ]
    judged = [(share, r) for r in whole if (share := _beyond_the_instrument(r)) is not None]
    if not judged:
        return
    worst, result = max(judged, key=lambda pair: pair[0])
    answer = Answer.YES if worst <= NEAR else Answer.PARTLY if worst <= FAR else Answer.NO
    title = {Answer.YES: "small errors", Answer.PARTLY: "moderate errors", Answer.NO: "large errors"}[answer]
    told = "; ".join(
        f"{r.covariate}{'' if r.source == JOINT else f' ({r.source})'} {amount(r.value, r.unit)}, on real"
        f" images"
        f" {words.floor(r)}"
        for _, r in judged
    )
    text = f"Mean absolute error of what was read, in {result.detail.get('strata')} strata: {told}."
    where = f" in {result.covariate}" if answer is not Answer.YES and len(judged) > 1 else ""
    yield Verdict(answer, f"Within groups of similar people: {title}{where}", text, _own(contents, result))


def _beyond_the_instrument(r: Result) -> float | None:
    """How much of a constant guess's error a score is above the instrument's own; None where nobody knows."""
    spread = r.detail.get("requested_sd")
    of_guess = GUESS * spread if isinstance(spread, int | float) else math.nan
    of_guess = r.own.guess_mae if r.own and r.own.guess_mae > 0 else of_guess
    if r.value is None or r.real_floor is None or not of_guess > 0:
        return None
    return (r.value - r.real_floor) / of_guess


def _likeness(contents: ReportContents) -> Iterator[Verdict]:
    for r in contents.results("kid-"):
        if r.stratum is None and r.source == JOINT and r.value is not None and r.real_floor is not None:
            floor_sd = r.detail.get("floor_sd")
            sd = max(r.sd or 0.0, floor_sd if isinstance(floor_sd, float) else 0.0)
            beyond = r.value - r.real_floor
            answer = Answer.YES if beyond <= sd else Answer.PARTLY if beyond > 2 * sd else Answer.UNKNOWN
            text = (
                f"{words.distance_name(r)}: {words.value(r)}; between halves of the real images"
                f" {words.floor(r)}; {r.n} pictures, {r.n_real} real ones. What a distance means depends on"
                f" the"
                " features."
            )
            yield Verdict(answer, f"Pictures as a set: {_ALIKE[answer]}", text)


_ALIKE = {
    Answer.YES: "no farther from real ones than these from each other, as far as so many images tell",
    Answer.PARTLY: "told from real ones",
    Answer.UNKNOWN: "too few images to say",
}


def _copies(contents: ReportContents) -> Iterator[Verdict]:
    found = [
        (r.features or "", *verdict(r.value, r.ci95[0] if r.ci95 else r.value, r.real_floor, r.real_floor_n))
        for r in contents.results("memorisation-")
        if r.value is not None and r.real_floor is not None and r.real_floor_n
    ]
    if found:
        more = any(suspect for _, suspect, _ in found)
        title = "MORE NEAR TRAINING IMAGES THAN CHANCE" if more else "no sign in this screen"
        shown = [(space, said) for space, suspect, said in found if suspect or not more]
        text = " ".join(f"{space}: {said}" for space, said in shown[: None if more else 1])
        also = "" if more or len(shown) < 2 else f" So in {', '.join(space for space, _ in shown[1:])}."
        answer = Answer.NO if more else Answer.YES
        yield Verdict(answer, f"Copies of training images: {title}", f"{text}{also} {DISCLAIMER}")


def _counterfactuals(contents: ReportContents) -> Iterator[Verdict]:
    for r in contents.results("counterfactual/effectiveness_mae"):
        nothing = r.detail.get("doing_nothing")
        if r.value is None or not isinstance(nothing, int | float):
            continue
        if not _usable(r):
            text = "What reads it is not known to read real images better than a guess."
            yield Verdict(
                Answer.UNKNOWN, f"Counterfactual {r.covariate}: cannot be said", text, _own(contents, r)
            )
            continue
        answer = Answer.YES if r.value <= nothing / 3 else Answer.PARTLY if r.value < nothing else Answer.NO
        text = f"Real images edited miss what was asked by {words.value(r)}; doing nothing misses by"
        text += f" {amount(nothing, r.unit)}; {r.n} images."
        title = {
            Answer.YES: "reaches its aim",
            Answer.PARTLY: "goes part of the way",
            Answer.NO: "does nothing",
        }[answer]
        yield Verdict(answer, f"Counterfactual {r.covariate}: {title}", text, _own(contents, r))


def _use(contents: ReportContents) -> Iterator[Verdict]:
    results = [r for r in contents.results("utility/") if r.value is not None and r.real_floor is not None]
    for r in results:
        guess = r.detail.get("blind_guess")
        smaller = r.metric.endswith("mae")
        if not isinstance(guess, int | float):
            continue
        value = float(r.value or 0.0)
        better = value < guess if smaller else value > guess
        shown = [amount(x, r.unit) if smaller else percent(x) for x in (r.value, r.real_floor, guess)]
        what = "error" if smaller else "right"
        text = (
            f"A network trained on pictures, tested on real images: {what} {shown[0]}; trained on as"
            f" many real"
        )
        text += f" images {shown[1]}; a guess without an image {shown[2]}."
        title = f"Learning {r.covariate} from pictures: {'better than a guess' if better else 'no use'}"
        yield Verdict(Answer.PARTLY if better else Answer.NO, title, text, f"n = {r.n_real} real images")
