"""Comparison tables of an evaluation: models side by side, as text, CSV and LaTeX."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mssg.metrics.results import JOINT, REAL, Evaluation, Result
from mssg.text import NONE, aligned, number

UPRIGHT = {
    "fid": "FID",
    "kid": "KID",
    "is": "IS",
    "fid_infinity": "FID∞",
    "ssim": "SSIM",
    "ms_ssim": "MS-SSIM",
    "psnr": "PSNR",
    "ppl": "PPL",
    "eq_t": "EQ-T",
    "eq_r": "EQ-R",
    "strata_kid": "KID in strata",
    "strata_fid": "FID in strata",
    "strata_kid_won": "KID in strata, won",
    "strata_fid_won": "FID in strata, won",
}
LATEX = {
    "&": r"\&",
    "%": r"\%",
    "_": r"\_",
    "#": r"\#",
    "²": r"\textsuperscript{2}",
    "°": r"\textdegree{}",
    "∞": r"$\infty$",
    "±": r"$\pm$",
    "–": "--",
    "−": "$-$",
}


INSTRUMENT = "instrument on real images"
DOUBTFUL = "NO BETTER THAN GUESSING"
"""Ends what is said of an instrument whose readings say nothing."""


@dataclass(frozen=True)
class ComparisonTable:
    """A table: what each line is about, and one cell a model, with the real images or their floor last."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int

    def text(self) -> str:
        """Aligned text."""
        return aligned(self.header, self.rows, self.left)

    def csv(self) -> str:
        """Comma-separated."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows([self.header, *self.rows])
        return out.getvalue()

    def latex(self) -> str:
        """A tabular with booktabs rules."""
        columns = "l" * self.left + "r" * (len(self.header) - self.left)
        lines = [r"% needs \usepackage{booktabs,textcomp}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [
            _tex(self.header),
            r"\midrule",
            *(_tex(row) for row in self.rows),
            r"\bottomrule",
            r"\end{tabular}",
        ]
        return "\n".join(lines) + "\n"


def comparison(found: Evaluation) -> ComparisonTable:
    """All numbers over the whole split and over all strata: one line a metric, one column a model, and what
    the instrument is worth on real images last."""
    labels = [m.label for m in found.models]
    lines: dict[tuple[str, ...], dict[str, Result]] = {}
    for result in found.results:
        shown = result.stratum is None and result.metric != "leakage" and result.design in (None, "a", "b")
        if shown and result.reference != "label":
            lines.setdefault(_line(result), {})[result.model] = result
    rows = []
    for line, cells in lines.items():
        floor = next((r.real_floor for r in cells.values() if r.real_floor is not None), None)
        own = next((_instrument(r) for r in cells.values() if r.own), "")
        rows.append((*line, *(_cell(cells.get(label)) for label in labels), number(floor), own))
    header = ("metric", "covariate", "against", "source", *labels, "real", INSTRUMENT)
    if not any(row[-1] for row in rows):
        header, rows = header[:-1], [row[:-1] for row in rows]
    return ComparisonTable(header, tuple(rows), 4)


def _instrument(r: Result) -> str:
    """What its instrument is worth on real images, with a mark where that is nothing."""
    return (r.own.brief() if r.own else "") + (f"; {DOUBTFUL}" if r.doubtful else "")


def summary(found: Evaluation) -> str:
    """What to look at first: nothing that was read no better than guessing."""
    table = comparison(found)
    rows = [row for row in table.rows if not row[-1].endswith(DOUBTFUL)]
    chosen = []
    for row in rows:
        metric, _, against, source = row[:4]
        joint = (
            source == JOINT
            or metric.startswith("control")
            or metric.startswith(("strata", "KID in", "FID in"))
        )
        if (
            joint
            and not metric.startswith("overall")
            and against in ("", "requested")
            and not metric.endswith(("mse", "balanced accuracy", "f1"))
            and "won" not in metric.split()
        ):
            chosen.append(row)
    left = chosen or [row for row in rows if row[3] == JOINT]
    lines = [ComparisonTable(table.header, tuple(left), table.left).text()] if left else []
    doubtful = dict.fromkeys(f"{r.covariate} ({_instrument(r)})" for r in found.results if r.doubtful)
    if doubtful:
        lines.append(f"\nNot shown, for nothing reads it better than a guess: {'; '.join(doubtful)}")
    return "\n".join(lines) or "nothing could be measured"


def strata_table(found: Evaluation, metric: str, reference: str | None = None) -> ComparisonTable:
    """One line a stratum and covariate, one column a model.

    Args:
        metric: Such as "strata/mae", or "strata_kid-…".
        reference: "requested" or "real", for scores.
    """
    labels = [m.label for m in found.models]
    lines: dict[tuple[str, str, str], dict[str, Result]] = {}
    for r in found.find(metric=metric):
        if r.reference in (reference, "label") or reference is None:
            place = (
                "all, weighted"
                if r.stratum is None
                else ", ".join(f"{k} {_limits(v)}" for k, v in r.stratum.items())
            )
            lines.setdefault((r.source, place, r.covariate or ""), {})[r.model] = r
    rows = []
    for key, cells in lines.items():
        floor = next((r.real_floor for r in cells.values() if r.real_floor is not None), None)
        count = next((str(r.n_real) for r in cells.values() if r.n_real is not None), "")
        rows.append((*key, count, *(_cell(cells.get(label)) for label in labels), number(floor)))
    return ComparisonTable(("source", "stratum", "covariate", "real images", *labels, REAL), tuple(rows), 3)


NUMBERS = (
    *("metric", "model", "source", "split", "covariate", "moved", "design", "reference", "stratum", "value"),
    *("low", "high", "sd", "unit", "n", "n_real", "real_floor", "instrument", "instrument_mae"),
    *("instrument_guess_mae", "instrument_r", "instrument_accuracy", "instrument_guess_accuracy"),
    *("instrument_n", "instrument_better_than_guessing"),
)
"""Columns of `numbers`."""


def numbers(found: Evaluation) -> str:
    """Every result as a line of comma-separated text, beside what its instrument is worth on real images."""
    out = io.StringIO()
    writer = csv.DictWriter(out, NUMBERS, lineterminator="\n")
    writer.writeheader()
    for r in found.results:
        row: dict[str, object] = {name: getattr(r, name, None) for name in NUMBERS}
        low, high = r.ci95 or (None, None)
        stratum = "; ".join(f"{k} {_limits(v)}" for k, v in (r.stratum or {}).items())
        own = r.own.to_json() if r.own else {}
        parts = ("mae", "guess_mae", "r", "accuracy", "guess_accuracy", "n")
        row |= {"low": low, "high": high, "stratum": stratum}
        row |= {f"instrument_{part}": own.get(part) for part in parts}
        row["instrument_better_than_guessing"] = own.get("better")
        writer.writerow(row)
    return out.getvalue()


def metric_name(metric: str) -> str:
    """A metric for people: "KID (efficientnet_lite0)", "strata MAE"."""
    head, _, features = metric.partition("-")
    if "/" in head:
        group, stat = head.split("/", 1)
        bare, won = (stat.removesuffix("_won"), " won") if stat.endswith("_won") else (stat, "")
        return f"{group} {bare.upper() if bare in ('mse', 'mae') else bare.replace('_', ' ')}{won}"
    name = UPRIGHT.get(head, head.replace("_", " "))
    return f"{name} ({features})" if features else name


def _line(r: Result) -> tuple[str, ...]:
    name = metric_name(r.metric) + (f", design {r.design}" if r.design else "")
    unit = f" [{r.unit}]" if r.unit else ""
    return (name + unit, r.covariate or "", r.reference or "", r.source)


def _cell(r: Result | None) -> str:
    if r is None or r.value is None or not math.isfinite(r.value):
        return NONE
    if r.sd is not None:
        return f"{number(r.value)} ± {number(r.sd)}"
    if r.ci95 and all(v is not None for v in r.ci95):
        return f"{number(r.value)} [{number(r.ci95[0])}, {number(r.ci95[1])}]"
    return number(r.value)


def _limits(limits: object) -> str:
    return (
        f"{number(limits[0])}–{number(limits[1])}"
        if isinstance(limits, Sequence) and not isinstance(limits, str)
        else str(limits)
    )


def _tex(cells: Iterable[str]) -> str:
    return " & ".join("".join(LATEX.get(ch, ch) for ch in cell) for cell in cells) + r" \\"
