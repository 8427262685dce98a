"""`mssg.load`: a trained model to draw with, from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.api import arguments
from mssg.api.arguments import argument_errors, broadcast, native, shown, stated
from mssg.api.card import card
from mssg.api.picture import Picture
from mssg.api.session import LoadedSnapshot, safe_after_fork
from mssg.checkpoint.header import resolve_snapshot
from mssg.checkpoint.snapshot import load_snapshot
from mssg.covariates.support import support
from mssg.errors import ArgumentError, DataError, SnapshotError, UsageError
from mssg.ops.device import checked_device
from mssg.rendering.command_line import grid_command
from mssg.study.covariate import Covariate
from mssg.study.model import Study
from mssg.study.values import Sweep, parse_sweep, training_defaults, training_range

if TYPE_CHECKING:
    from mssg.api.cohort import Cohort
    from mssg.api.inverted import Inverted
    from mssg.api.volume import Volume
    from mssg.data.plane import Place
    from mssg.plotting.image_grid import GridFigure


@dataclass(frozen=True)
class CovariateInfo:
    """A covariate of a model, in native units.

    Attributes:
        name: Its name.
        kind: "continuous", "binary" or "categorical".
        unit: Of a continuous one; "" where it has none.
        levels: Names of the levels of a categorical one, and of a binary one that names them.
        low, high: Lowest and highest training value of a continuous one; None where the snapshot does not
            say.
        median: Training median of a continuous one; None likewise.
        default: What it is where nobody states it: the median, or the most frequent level; None likewise.
        observed_by: Names of the sources that record it.
    """

    name: str
    kind: str
    unit: str
    levels: tuple[str, ...]
    low: float | None
    high: float | None
    median: float | None
    default: float | int | str | None
    observed_by: tuple[str, ...]


class Model:
    """A trained model. From several threads, pictures are drawn one after the other.

    Attributes:
        name: What it was loaded as.
        study: What it was trained on: covariates, sources, geometry.
        device: Where it computes: "cpu", "cuda" or "mps".
    """

    def __init__(self, session: LoadedSnapshot) -> None:
        self._session = session
        self.name: str = session.name
        self.study: Study = session.study
        self.device: str = session.snapshot.device

    @cached_property
    def covariates(self) -> dict[str, CovariateInfo]:
        """Covariate name -> what it is. "source" is one where the model is told the source."""
        summary = self._session.header.summary
        try:
            defaults = training_defaults(self.study, summary)
        except UsageError:
            defaults = {}
        return {c.name: _info(self.study, c, summary, defaults) for c in self.study.conditions}

    def draw(
        self,
        *,
        values: Mapping[str, Any] | None = None,
        seed: Any = 0,
        psi: Any = 1.0,
        noise: Any = "const",
        noise_seed: Any = 0,
        source: Any = None,
        **covariates: Any,
    ) -> Any:
        """Draw a picture, or several.

        Any argument may be a list, range or one-dimensional array: lists go together, value by value, with
        what is single repeated.

        Args:
            values: Covariate name -> native value, or a level's name. For names that are no keywords, such as
                "CDR-SB" or "seed".
            seed: Seed of the latent, 0 to 2**32 - 1: what no covariate says.
            psi: Truncation: 1 = none, 0 = the average picture.
            noise: "const", "random" or "none": noise inputs, where the network has any.
            noise_seed: Seed of random noise.
            source: The source's name, where the model is told it.
            covariates: Further covariates. What is not stated takes the training median, or the most frequent
                level.

        Returns:
            A `Picture`; a list of them where anything is a list.

        Raises:
            ArgumentError: An unknown name, a wrong value, a name given twice, or lists of different lengths.
        """
        wanted = stated(self.study, values, covariates, source)
        drawing = {"seed": seed, "psi": psi, "noise": noise, "noise_seed": noise_seed}
        rows, many = broadcast([*wanted.items(), *drawing.items()])
        requests = [
            arguments.request_of(self.study, dict(zip(wanted, row)), *row[len(wanted) :]) for row in rows
        ]
        pictures = self._session.pictures(requests)
        return pictures if many else pictures[0]

    def draw_volume(
        self,
        *,
        values: Mapping[str, Any] | None = None,
        seed: int = 0,
        psi: float = 1.0,
        noise: str = "const",
        noise_seed: int = 0,
        source: str | None = None,
        resample: float | None = None,
        **covariates: Any,
    ) -> Volume:
        """Draw a whole head, of a study whose slices lie at many places.

        Args:
            values, seed, psi, noise, noise_seed, source, covariates: As in `draw`, one value each, and no
                place.
            resample: Edge of cubic voxels in millimetres; None: slices as they were learned.

        Raises:
            ArgumentError: A study without a position, an unknown name, or a wrong value.
        """
        from mssg.api.volume import Volume
        from mssg.rendering import volume

        wanted = stated(self.study, values, covariates, source)
        with argument_errors():
            position = volume.check_volume(self.study)
        if position in wanted:
            raise ArgumentError("a volume has every place", field=position, hint="Leave it out")
        if resample is not None:
            resample = arguments.number("resample", resample)
        request = arguments.request_of(self.study, wanted, seed, psi, noise, noise_seed)
        with argument_errors(), self._session.renderer() as renderer:
            head = volume.draw_volume(renderer, request)
            row = dict(zip(self.study.condition_names, renderer.values(request.covariates).tolist()))
            if resample is not None:
                head = volume.resampled(head, resample)
        return Volume(head, request, row, self._session.header, snapshot=self.name)

    def grid(
        self,
        rows: str | tuple[str, Sequence[Any]],
        cols: str | tuple[str, Sequence[Any]],
        fix: Mapping[str, Any] | None = None,
        seed: int = 0,
        *,
        psi: float = 1.0,
        noise: str = "const",
        noise_seed: int = 0,
        per_source: bool = False,
        panels: str | tuple[str, Sequence[Any]] | None = None,
    ) -> GridFigure:
        """Two covariates along the axes of a figure, the others fixed.

        Args:
            rows, cols: A covariate's name (from the training 5 % to the 95 % quantile, or all levels),
                "age=50:80:4", "age=50,60,70", or a pair of name and values.
            fix: Other covariates: name -> native value.
            seed, psi, noise, noise_seed: As in `draw`, for all pictures.
            per_source: One grid for each source, where the model is told it.
            panels: One grid for each value of a third covariate; as `rows`.

        Returns:
            A figure with `.save(path)` for .png and .pdf; a notebook shows it.

        Raises:
            ArgumentError: An unknown name, a name on two axes, or a wrong value.
        """
        from mssg.plotting.image_grid import PANELS, STEPS, grid

        request = arguments.request_of(self.study, stated(self.study, fix, {}), seed, psi, noise, noise_seed)
        sweeps = self._sweep("rows", rows, STEPS), self._sweep("cols", cols, STEPS)
        third = None if panels is None else self._sweep("panels", panels, PANELS)
        command = grid_command(request, self.study, self.name, sweeps, panels=third)
        command += " --per-source" if per_source else ""
        with argument_errors(), self._session.renderer() as renderer:
            return grid(renderer, *sweeps, request, per_source=per_source, panels=third, command=command)

    def sample(
        self,
        n: int | None = None,
        *,
        given: Mapping[str, Any] | None = None,
        uniform: Mapping[str, Sequence[float]] | None = None,
        balance: str | Sequence[str] = (),
        match: Any = None,
        within_support: float = 0,
        seed: int = 0,
        first: int = 0,
    ) -> Cohort:
        """Synthetic people whose covariates go together as in the population.

        Args:
            n: How many; with `match` its rows say.
            given: Covariate name -> value that all share. The others are drawn given it.
            uniform: Name of a continuous covariate -> (low, high), even between these.
            balance: Covariates whose levels, and their combinations, shall be equally frequent.
            match: A table (.csv, .tsv, mapping of columns, DataFrame): one synthetic person a row. What is
                missing there is drawn given the rest.
            within_support: Draw again whose covariates are below this percentile of the training data's.
            seed: Of everything drawn. Person i depends on the snapshot, these arguments and i alone.
            first: Number of the first person.

        Returns:
            A `Cohort`: `.table`, `.to_dataframe()`, `.save(folder)`; it goes through its pictures.

        Raises:
            ArgumentError: An unknown name, a wrong value or table, or covariates that cannot be within the
                support.
        """
        from mssg.api.cohort import Cohort, cohort_request

        wanted = cohort_request(
            self.study,
            n,
            given=given,
            uniform=uniform,
            balance=balance,
            match=match,
            within_support=within_support,
            seed=seed,
            first=first,
        )
        return Cohort(self._session, wanted)

    def support(
        self, *, values: Mapping[str, Any] | None = None, source: Any = None, **covariates: Any
    ) -> Any:
        """How common a combination of covariates is among the training data.

        Args:
            values, source, covariates: As in `draw`. What is not stated may be anything: it is integrated
                out.

        Returns:
            Percentile of its log-density, 0 (lies outside) to 100; a list where anything is a list.

        Raises:
            ArgumentError: An unknown name, a wrong value, or a snapshot that does not say.
        """
        wanted = stated(self.study, values, covariates, source)
        rows, many = broadcast(list(wanted.items()))
        percentiles = (self._session.header.summary.get("log_density") or {}).get("percentiles") or ()
        if len(percentiles) < 2:
            hint = "Models that were imported have no training data"
            raise ArgumentError(
                "this snapshot holds no densities of its training data", field=self.name, hint=hint
            )
        table = np.full((len(rows), len(self.study.conditions)), np.nan)
        for i, row in enumerate(rows):
            for name, value in zip(wanted, row):
                table[i, self.study.index(name)] = native(self.study.covariate(name), value)
        with argument_errors(DataError), self._session.at_work():
            found = support(self._session.header.models, table, percentiles).tolist()
        return found if many else found[0]

    def invert(
        self,
        image: str | PathLike[str] | NDArray[Any] | Picture,
        *,
        values: Mapping[str, Any] | None = None,
        steps: int = 400,
        seed: int = 0,
        source: Any = None,
        **covariates: Any,
    ) -> Inverted:
        """Find the latent of a real image, so that its covariates can be changed.

        Args:
            image: A .png, .jpg, .npy or .nii.gz as `mssg invert` takes it; an array uint8 (or float, 0 to
                255) [H, W], [H, W, 3] or [C, H, W]; or a picture.
            values, source, covariates: Covariates of the image, as in `draw`. What is not stated is read off
                the image.
            steps: Steps of the optimiser.
            seed: Of the starting points and of the noise of the search.

        Raises:
            ArgumentError: An image of another size, kind or range, a covariate that nothing reads, an unknown
                name, or a wrong value.
            DataError: A file that is missing or damaged.
        """
        from mssg.api.inverted import Inverted
        from mssg.inversion.latent_file import InvertedImage, search
        from mssg.inversion.projector import InvertConfig

        wanted = stated(self.study, values, covariates, source)
        given = {name: native(self.study.covariate(name), value) for name, value in wanted.items()}
        pixels, place = self._pixels(image)
        snapshot = self._session.snapshot
        for name, whole in (("steps", steps), ("seed", seed)):
            if not isinstance(whole, int | np.integer) or isinstance(whole, bool) or whole < 0:
                raise ArgumentError("not a whole number", field=name, found=repr(whole))
        with argument_errors(SnapshotError), self._session.at_work():
            config = InvertConfig(steps=int(steps), seed=int(seed))
            done = search(snapshot, InvertedImage.to_do(snapshot, pixels, given, config, place=place))
        return Inverted(self._session, done)

    def _pixels(self, image: Any) -> tuple[NDArray[np.uint8], Place | None]:
        """An image of the caller's as uint8 [C, H, W], and where it lies in its patient if that is known."""
        from mssg.inversion.image_reader import channels_first, fitting_picture, read_image

        if isinstance(image, str | PathLike):
            return read_image(fspath(image), self.study)
        try:
            array = np.asarray(image.array if isinstance(image, Picture) else image)
        except ValueError:  # lists of different lengths
            raise ArgumentError("not an array", field="image", found=type(image).__name__) from None
        if array.ndim == 3 and array.shape[2] in (1, 3) and array.shape[1] == self.study.resolution:
            array = array.transpose(2, 0, 1)
        try:
            return fitting_picture(channels_first(array), self.study), None
        except DataError as error:
            raise ArgumentError(
                error.message, field="image", found=error.found, expected=error.expected, hint=error.hint
            ) from None

    def _sweep(self, axis: str, stated_axis: Any, steps: int) -> Sweep:
        """An axis of a grid, of so many steps where it does not say."""
        if isinstance(stated_axis, str):
            arguments.check_name(self.study, stated_axis.partition("=")[0].strip())
            with argument_errors():
                return parse_sweep(self.study, stated_axis, steps, self._session.header.summary)
        if not isinstance(stated_axis, tuple) or len(stated_axis) != 2:
            expected = "a covariate's name, or (name, values)"
            raise ArgumentError("not an axis", field=axis, found=repr(stated_axis), expected=expected)
        name, listed = stated_axis
        arguments.check_name(self.study, name)
        rows, _ = broadcast([(name, listed)])
        return Sweep(name, tuple(native(self.study.covariate(name), value) for (value,) in rows))

    def __repr__(self) -> str:
        names = ", ".join(self.study.condition_names)
        side = self.study.resolution
        return f"<Model {self.name!r}: {side} x {side} pixels, {names}; on {self.device}>"

    def _repr_html_(self) -> str:
        """How a notebook shows it: a short card."""
        return card(self.name, self.study, self._session.header.progress, self.covariates.values())


def _info(
    study: Study, covariate: Covariate, summary: Mapping[str, Any], defaults: Mapping[str, float]
) -> CovariateInfo:
    low = high = median = None
    name = covariate.name
    if covariate.is_continuous and name in defaults:
        low, high = training_range(covariate, summary, 0.0, 1.0)
        median = defaults[name]
    return CovariateInfo(
        name=name,
        kind=covariate.kind,
        unit=covariate.unit,
        levels=covariate.levels,
        low=low,
        high=high,
        median=median,
        default=shown(covariate, defaults[name]) if name in defaults else None,
        observed_by=study.observers(name),
    )


def load(name: str | PathLike[str], device: str = "auto") -> Model:
    """Load a trained model.

    Args:
        name: A shipped name ("brain", "digits"), a .safetensors file, or a run's folder (its newest
            snapshot).
        device: "auto" (cuda, mps or cpu, whichever is there first), or one of them.

    Raises:
        ArgumentError: Nothing of that name, or no such device.
        SnapshotError: A file that is damaged or no snapshot.
    """
    try:
        text = fspath(name)
    except TypeError:
        raise ArgumentError("not a name or path", field="name", found=repr(name)) from None
    if not isinstance(device, str):
        raise ArgumentError("not a device", field="device", found=repr(device))
    missing = (SnapshotError,) if not Path(text).exists() else ()
    with argument_errors(*missing):
        path = resolve_snapshot(text)
    with argument_errors(), safe_after_fork():
        return Model(LoadedSnapshot(load_snapshot(path, checked_device(device)), text))
