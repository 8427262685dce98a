"""Are counterfactual images sound? Composition, effectiveness, reversibility and minimality, each beside what
it must be judged by.

An edit f takes a real image x with covariates c to what it would be with c'. The first three are the axioms
of Monteiro et al. 2023, "Measuring axiomatic soundness of counterfactual image models" (ICLR), after Galles &
Pearl 1998; distances are mean absolute differences of pixels, as there, in grey levels.

- composition: changing nothing, once or several times over, gives the image back: d(x, f(x, c, c)).
- effectiveness: the edited image has the covariate asked for, as an instrument reads it.
- reversibility: there and back again is the image: d(x, f(f(x, c, c'), c', c)), the edited image seen afresh,
  not remembered.
- minimality (Sanchez & Tsaftaris 2022, "Diffusion causal models for counterfactual estimation", ask it of
  latents): what was not asked to change stays. Here: other covariates, as read; and the picture, against a
  stranger with the same covariates.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mssg.errors import UsageError
from mssg.metrics.bootstrap import mean_and_interval, ratio_and_interval
from mssg.metrics.results import Result
from mssg.metrics.sampling import ArrayCache
from mssg.study.covariate import SOURCE, Covariate
from mssg.study.model import Study

QUANTILES = (0.1, 0.3, 0.5, 0.7, 0.9)
"""Where continuous covariates are moved to: these quantiles given the covariates that all sources record."""
FEWEST = 8

Progress = Callable[[str, int, int], None]


class Editor(Protocol):
    """Makes counterfactuals of images."""

    def abduct(self, images: np.ndarray, values: np.ndarray) -> Any:
        """Explain images uint8 [N, C, H, W] of covariates [N, V]: whatever `predict` needs."""
        ...

    def predict(self, state: Any, values: np.ndarray) -> np.ndarray:
        """The explained images with covariates [N, V]: uint8 [N, C, H, W]."""
        ...

    def draw(self, values: np.ndarray, seed: int) -> np.ndarray:
        """Strangers with these covariates: uint8 [N, C, H, W]."""
        ...


@dataclass(frozen=True)
class GeneratorEditor:
    """Edits by inversion (`mssg.inversion.projector`).

    Attributes:
        snapshot: Whose generator.
        batch: Images inverted at a time.
        told: Called with the number of images just inverted.
        cache: Keeps inversions, so that an interrupted evaluation continues.
    """

    snapshot: Any
    config: Any
    batch: int = 64
    told: Callable[[int], None] | None = None
    cache: ArrayCache | None = None

    def abduct(self, images: np.ndarray, values: np.ndarray) -> list[Any]:
        """See `Editor.abduct`: inverted, `batch` at a time."""
        from mssg.features.perceptual import perceptual_distance
        from mssg.inversion.projector import Inversion, invert

        snapshot, config, parts = self.snapshot, self.config, []
        distance = perceptual_distance(config.features, snapshot, config.weights)
        for start in range(0, len(images), self.batch):
            some, known = images[start : start + self.batch], values[start : start + self.batch]

            def arrays(some: np.ndarray = some, known: np.ndarray = known) -> dict[str, np.ndarray]:
                found = invert(snapshot.G, snapshot.study, some, known, config=config, perceptual=distance)
                return {"z": found.z, "residual": found.residual, "loss": found.loss, **found.noise}

            key = ["inversion", snapshot.header.snapshot_id, str(snapshot.device), repr(config), some, known]
            kept = dict(self.cache.get(key, arrays) if self.cache else arrays())
            z, residual, loss = (kept.pop(k) for k in ("z", "residual", "loss"))
            parts.append(
                Inversion(values=known, z=z, residual=residual, noise=kept, loss=loss, steps=config.steps)
            )
            if self.told:
                self.told(len(some))
        return parts

    def predict(self, state: list[Any], values: np.ndarray) -> np.ndarray:
        from mssg.inversion.projector import draw

        parts, start = [], 0
        for part in state:
            parts.append(draw(self.snapshot.G, self.snapshot.study, part, values[start : start + len(part)]))
            start += len(part)
        return np.concatenate(parts)

    def draw(self, values: np.ndarray, seed: int) -> np.ndarray:
        from mssg.rendering.renderer import Renderer

        return Renderer(self.snapshot).generate(values, seed)


def counterfactual(
    editor: Editor,
    study: Study,
    models: Any,
    *,
    measure: Callable[[np.ndarray], Mapping[str, np.ndarray]],
    images: np.ndarray,
    values: np.ndarray,
    instruments: Mapping[str, str],
    model: str = "model",
    split: str = "test",
    seed: int = 0,
    cycles: int = 2,
    progress: Progress | None = None,
) -> list[Result]:
    """Measure counterfactuals of real images, one covariate moved at a time, all others held.

    Args:
        models: Its covariate models: where covariates are moved to.
        measure: uint8 images -> covariate -> native values [N], NaN where unreadable.
        images: Real images uint8 [N, C, H, W] the editor was not trained on.
        values: Their covariates [N, V], native, nothing missing.
        instruments: Covariate -> name of what measures it.
        model, split: For the results.
        seed: Of the values moved to, the strangers and the bootstrap.
        cycles: How often nothing is changed for composition.
        progress: Called with (what, images done, images in all).

    Returns:
        Metrics "counterfactual/…" (docs/guide/counterfactuals.md); `detail` holds what each is to be judged
        by.

    Raises:
        UsageError: Fewer than `FEWEST` images, or values that are missing.
    """
    if (n := len(images)) < FEWEST:
        raise UsageError("too few images for counterfactuals", found=n, expected=f"{FEWEST} or more")
    if values.shape != (n, len(study.conditions)) or not np.isfinite(values).all():
        raise UsageError("every image needs a value of every covariate", found=list(values.shape))
    trial = _Trial(
        editor=editor,
        study=study,
        models=models,
        measure=measure,
        images=images,
        values=values,
        instruments=instruments,
        model=model,
        split=split,
        seed=seed,
    )
    total, done = cycles + len(study.conditions), 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        if progress:
            progress(f"counterfactuals, {what}", done * n, total * n)

    results = list(trial.composition(cycles, tell))
    for i, covariate in enumerate(study.conditions):
        results += trial.moved(covariate, i)
        tell(covariate.name)
    return results


@dataclass
class _Trial:
    editor: Editor
    study: Study
    models: Any
    measure: Callable[[np.ndarray], Mapping[str, np.ndarray]]
    images: np.ndarray
    values: np.ndarray
    instruments: Mapping[str, str]
    model: str
    split: str
    seed: int

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 5])
        self.others = derangement(len(self.images), self.rng)
        self.real = self._read(self.images)
        self.state = self.editor.abduct(self.images, self.values)
        self.again = self.editor.predict(self.state, self.values)
        self.read_again = self._read(self.again)

    def _read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        return {
            k: np.asarray(v, np.float64) for k, v in self.measure(images).items() if k in self.instruments
        }

    def _result(self, metric: str, per_image: np.ndarray, detail: dict[str, Any], **more: Any) -> Result:
        value, interval, n = mean_and_interval(per_image, self.rng)
        return Result(
            metric=f"counterfactual/{metric}",
            value=value,
            model=self.model,
            n=n,
            n_real=len(self.images),
            ci95=interval,
            split=self.split,
            detail=detail,
            **more,
        )

    def composition(self, cycles: int, tell: Callable[[str], None]) -> Iterator[Result]:
        """Nothing changed, once and again."""
        another = float(distance(self.images, self.images[self.others]).mean())
        stranger = float(distance(self.images, self.editor.draw(self.values, self.seed + 1)).mean())
        self.floors = {"another_image": another, "stranger": stranger}
        image = self.images
        for cycle in range(1, cycles + 1):
            image = (
                self.again
                if cycle == 1
                else self.editor.predict(self.editor.abduct(image, self.values), self.values)
            )
            apart = distance(self.images, image)
            yield self._result(f"composition_{cycle}", apart, dict(self.floors), unit="grey levels")
            tell("nothing changed")
        self.floors[f"composition_{cycles}"] = float(apart.mean())

    def target(self, covariate: Covariate, stream: int) -> np.ndarray:
        """Values to move a covariate to [N]."""
        rng, n = np.random.default_rng([self.seed, 6, stream]), len(self.images)
        now = self.values[:, self.study.index(covariate.name)]
        if not covariate.is_continuous:
            levels = covariate.num_levels
            return (now + rng.integers(1, levels, n)) % levels
        tied = (*self.study.shared, *((SOURCE,) if SOURCE in self.study.condition_names else ()))
        given = {name: self.values[:, self.study.index(name)] for name in tied if name != covariate.name}
        return np.asarray(self.models.quantile(covariate.name, rng.choice(QUANTILES, n), given))

    def moved(self, covariate: Covariate, stream: int) -> Iterator[Result]:
        """One covariate changed, all others held."""
        values, name = self.values.copy(), covariate.name
        column = self.study.index(name)
        values[:, column] = self.target(covariate, stream)
        edited = self.editor.predict(self.state, values)
        read = self._read(edited)
        if name in read:
            yield self._effectiveness(covariate, values[:, column], read[name])
        for other in self.study.conditions:
            if other.name != name and other.name in read:
                yield self._drift(other, name, read[other.name])
        changed = distance(self.again, edited)
        strangers = distance(self.again, self.editor.draw(values, self.seed + 2))
        ratio, interval = ratio_and_interval(changed, strangers, self.rng)
        detail = {"changed": float(changed.mean()), "stranger": float(strangers.mean())}
        yield Result(
            metric="counterfactual/identity",
            value=ratio,
            model=self.model,
            n=len(edited),
            n_real=len(edited),
            ci95=interval,
            split=self.split,
            moved=name,
            detail=detail,
        )
        back = self.editor.predict(self.editor.abduct(edited, values), self.values)
        floors = {**self.floors, "edited": float(distance(self.images, edited).mean())}
        yield self._result(
            "reversibility", distance(self.images, back), floors, moved=name, unit="grey levels"
        )

    def _effectiveness(self, covariate: Covariate, wanted: np.ndarray, read: np.ndarray) -> Result:
        """Error of the covariate that was moved (share of hits where it has levels), and what doing nothing
        would score."""
        name = covariate.name
        before, known = self.real[name], self.values[:, self.study.index(name)]
        usable = np.isfinite(read) & np.isfinite(before)
        detail: dict[str, Any] = {"unreadable": float(1 - usable.mean())}
        if covariate.is_continuous:
            score = lambda a, b: np.where(usable, np.abs(a - b), math.nan)  # noqa: E731
            asked, got = (wanted - known)[usable], (read - before)[usable]
            detail["slope"] = float(asked @ got / (asked @ asked)) if asked.any() else None
        else:
            score = lambda a, b: np.where(usable, np.rint(a) == b, math.nan)  # noqa: E731
        nothing, own = score(before, wanted), score(before, known)
        detail |= {"doing_nothing": mean_and_interval(nothing, self.rng)[0]}
        metric = "effectiveness_mae" if covariate.is_continuous else "effectiveness_hits"
        return self._result(
            metric,
            score(read, wanted),
            detail,
            covariate=name,
            moved=name,
            instrument=self.instruments[name],
            reference="requested",
            unit=covariate.unit or None,
            real_floor=mean_and_interval(own, self.rng)[0],
            real_floor_n=int(usable.sum()),
        )

    def _drift(self, covariate: Covariate, moved: str, read: np.ndarray) -> Result:
        """How far a covariate that was held has moved: in its standard deviations, or the share that changed
        level."""
        name, again, real = covariate.name, self.read_again[covariate.name], self.real[covariate.name]
        sd = float(np.nanstd(real)) or math.nan

        def apart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
            if covariate.is_continuous:
                return np.abs(a - b) / sd
            return np.where(np.isfinite(a) & np.isfinite(b), np.rint(a) != np.rint(b), math.nan)

        detail = {
            "reconstruction": mean_and_interval(apart(again, real), self.rng)[0],
            "another_image": mean_and_interval(apart(real, real[self.others]), self.rng)[0],
        }
        return self._result(
            "minimality",
            apart(read, again),
            detail,
            covariate=name,
            moved=moved,
            instrument=self.instruments[name],
            unit="sd" if covariate.is_continuous else "share changed",
        )


def distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Mean absolute difference of pixels of pairs uint8 [N, C, H, W]: grey levels [N]."""
    return np.abs(a.astype(np.float64) - b).mean(axis=(1, 2, 3))


def derangement(n: int, rng: np.random.Generator) -> np.ndarray:
    """Another image for each: a random cycle through all, int [n]."""
    order = rng.permutation(n)
    other = np.empty(n, int)
    other[order] = np.roll(order, 1)
    return other
