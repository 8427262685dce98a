"""Prepared sources on disk: images.npy, table.csv and source.json in one folder (docs/reference/formats.md
"Prepared source")."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.split import SPLITS, unit_hash
from mssg.data.table import as_numbers, check_keys, check_some_value, read_covariate, read_table
from mssg.errors import DataError, UsageError
from mssg.files import parse_json
from mssg.study.covariate import SOURCE
from mssg.study.model import Study

FORMAT_VERSION = 1
IMAGES, TABLE, INFO = "images.npy", "table.csv", "source.json"


@dataclass(frozen=True)
class PackedSource:
    """One source of a study, ready to be trained on; images stay on disk until they are asked for.

    Attributes:
        name: The source's name in the study.
        images: uint8 [N,C,H,W], memory-mapped.
        values: float64 [N,V] in native units, NaN for what is missing and for all that the source does not
            observe.
        observed: bool [V], the covariates that the source observes.
        split: "train" | "val" | "test" [N].
        subjects: Subject identifiers [N].
        table: Every column of the table, truth beyond `observes` included; numbers where a whole column reads
            as such.
        info: source.json.
        share: Share of the training people whose rows count as training rows; the same people in every
            source with this share.
    """

    name: str
    path: Path
    images: NDArray[np.uint8]
    values: NDArray[np.float64]
    observed: NDArray[np.bool_]
    split: NDArray[np.str_]
    subjects: NDArray[np.str_]
    table: Mapping[str, np.ndarray]
    info: Mapping[str, Any]
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, split: str) -> NDArray[np.int64]:
        """Indices of the rows of a split, ascending.

        Raises:
            UsageError: No such split.
        """
        if split not in self._rows:
            raise UsageError("no such split", field=split, expected=" | ".join(SPLITS))
        return self._rows[split]

    @cached_property
    def _rows(self) -> dict[str, NDArray[np.int64]]:
        rows = {name: np.flatnonzero(self.split == name) for name in SPLITS}
        if self.share < 1:
            kept = [unit_hash(0, self.subjects[row], "share") < self.share for row in rows["train"]]
            rows["train"] = rows["train"][kept]
        return rows

    def truth(self, study: Study, rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], dict[str, str]]:
        """Values of rows [n, V], completed from the columns that the table keeps beside what the source
        observes: training sees none of these, evaluation and predictors may.

        Args:
            study: The study it was opened for.

        Returns:
            The values, and what is wrong with cells that cannot be used, by covariate.
        """
        values, problems = self.values[rows].copy(), {}
        for v, covariate in enumerate(study.conditions):
            if self.observed[v] or covariate.name not in self.table:
                continue
            bad = []
            for i, cell in enumerate(np.asarray(self.table[covariate.name])[rows]):
                try:
                    values[i, v] = covariate.parse(str(cell))
                except UsageError as error:
                    bad.append(str(error))
            if bad:
                lost = f"{len(bad)} of {len(rows)} cells are not used. The first: {bad[0]}"
                problems[covariate.name] = lost
        return values, problems

    def columns(self, study: Study, split: str = "train") -> dict[str, NDArray[np.float64]]:
        """What the source observes, by covariate: the table a covariate model or the study's statistics are
        fitted to.

        Args:
            study: The study it was opened for.

        Returns:
            Covariate name -> native values [n], observed covariates only.
        """
        rows = self.rows(split)
        return {
            name: self.values[rows, i] for i, name in enumerate(study.condition_names) if self.observed[i]
        }

    @staticmethod
    def open(
        path: str | os.PathLike[str], study: Study, source_index: int, verify: bool = False
    ) -> PackedSource:
        """Open and check a prepared folder.

        Args:
            study: What the images and columns must fit.
            source_index: Which of the study's sources it is.
            verify: Also compare both files with the hashes in source.json (reads everything).

        Raises:
            DataError: A file is missing or damaged, images of another type or size, a column or value that
                does not fit.
        """
        folder = Path(path)
        source = study.sources[source_index]
        info = _read_info(folder)
        _check_meaning(folder / INFO, info, study, source.observes)
        images = _read_images(folder / IMAGES, study)
        columns = _plain_binaries(read_table(folder / TABLE), info, study)
        check_keys(folder / TABLE, columns, len(images))
        if verify:
            verify_hashes(folder, info)
        values = np.full((len(images), len(study.conditions)), np.nan)
        for name in source.observes:
            values[:, study.index(name)] = read_covariate(folder / TABLE, columns, study, name)
        check_some_value(folder / TABLE, values, source.observes)
        observed = study.observed_mask(source_index)
        if SOURCE in study.condition_names and study.condition_on_source:
            values[:, study.index(SOURCE)] = source_index
        return PackedSource(
            name=source.name,
            path=folder,
            images=images,
            values=values,
            observed=observed,
            split=np.array(columns["split"]),
            subjects=np.array(columns["subject"]),
            table={name: as_numbers(column) for name, column in columns.items()},
            info=info,
            share=source.share,
        )


def open_sources(study: Study, verify: bool = False) -> tuple[PackedSource, ...]:
    """Open every source of a study, at the paths its TOML names.

    Raises:
        DataError: As `PackedSource.open`, or a subject that sources disagree about (train here, test there).
    """
    sources = tuple(
        PackedSource.open(study.source_path(i), study, i, verify) for i in range(len(study.sources))
    )
    seen: dict[str, tuple[str, Path]] = {}
    for source in sources:
        for subject, split in zip(source.subjects.tolist(), source.split.tolist()):
            known = seen.setdefault(subject, (split, source.path))
            if known[0] != split:
                raise DataError(
                    f"subject {subject!r} is in another split than in {known[1]}",
                    file=source.path / TABLE,
                    field="split",
                    found=split,
                    expected=known[0],
                    hint="Prepare all sources with one seed and the same shares",
                )
    return sources


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify_hashes(folder: Path, info: Mapping[str, Any]) -> None:
    """Compare a folder's files with the hashes in its source.json.

    Raises:
        DataError: A file was changed after it was prepared, or no hash is recorded.
    """
    expected = info.get("sha256", {})
    for name in (IMAGES, TABLE):
        found = file_hash(folder / name)
        if found != expected.get(name):
            raise DataError(
                "differs from what was prepared",
                file=folder / name,
                field="sha256",
                found=found[:16] + "…",
                expected=str(expected.get(name))[:16] + "…",
                hint="Prepare this source again, or restore the file",
            )


def _read_info(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise DataError(
            "no such folder" if not folder.exists() else "not a folder",
            file=folder,
            expected=f"a prepared source ({IMAGES}, {TABLE}, {INFO})",
            hint="Run mssg prepare, or correct the source's path in the study TOML",
        )
    try:
        info = parse_json((folder / INFO).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            "no such file", file=folder / INFO, hint="Prepare this source again with mssg prepare"
        ) from None
    except (ValueError, OSError) as error:
        raise DataError(f"cannot be read as JSON: {error}", file=folder / INFO) from None
    if not isinstance(info, dict) or info.get("format_version") != FORMAT_VERSION:
        raise DataError(
            "unknown format version",
            file=folder / INFO,
            field="format_version",
            found=info.get("format_version") if isinstance(info, dict) else type(info).__name__,
            expected=FORMAT_VERSION,
            hint="Prepare this source again with this version of mssg",
        )
    return info


def _check_meaning(path: Path, info: Mapping[str, Any], study: Study, observes: Sequence[str]) -> None:
    """Refuse a source whose source.json states another unit or other levels for a covariate than the study
    does."""
    _check_geometry(path, info.get("geometry"), study)
    stated = info.get("covariates")
    for name in observes:
        entry = stated.get(name) if isinstance(stated, dict) else None
        covariate = study.covariate(name)
        for key, wanted in (("unit", covariate.unit), ("levels", list(covariate.levels))):
            if isinstance(entry, dict) and entry.get(key) and wanted and entry[key] != wanted:
                raise DataError(
                    f"the source's {key} of {name!r} clash with the study's",
                    file=path,
                    field=f"covariates.{name}.{key}",
                    found=entry[key],
                    expected=wanted,
                    hint="Convert the source's column when preparing it, or correct the study TOML",
                )


def _plain_binaries(
    columns: dict[str, list[str]], info: Mapping[str, Any], study: Study
) -> dict[str, list[str]]:
    """A table's columns with 0 and 1 for the levels that source.json names and the study does not."""
    stated = info.get("covariates")
    stated = stated if isinstance(stated, dict) else {}
    for covariate in study.covariates:
        entry, name = stated.get(covariate.name), covariate.name
        levels = entry.get("levels") if isinstance(entry, dict) else None
        if covariate.kind == "binary" and not covariate.levels and name in columns:
            if isinstance(levels, list) and len(levels) == 2 and all(isinstance(v, str) for v in levels):
                plain = dict(zip(levels, ("0", "1")))
                columns[name] = [plain.get(text, text) for text in columns[name]]
    return columns


def _check_geometry(path: Path, stated: Any, study: Study) -> None:
    """Refuse a source that was cut in another plane, size or place than the study says."""
    if not isinstance(stated, dict) or study.geometry is None:
        return
    keys = ("plane", "pixel_mm")
    if stated.get("affine") == study.geometry.affine == "common":
        keys = (*keys, "centre_mm") if study.position else (*keys, "position_mm", "centre_mm")
    for key in keys:
        found, wanted = stated.get(key), getattr(study.geometry, key)
        same = (
            found == wanted
            if isinstance(wanted, str)
            else found is None or np.allclose(found, wanted, atol=1e-3)
        )
        if found is not None and not same:
            raise DataError(
                f"the source's {key} clashes with the study's",
                file=path,
                field=f"geometry.{key}",
                found=found,
                expected=list(wanted) if isinstance(wanted, tuple) else wanted,
                hint="Prepare the source again with the study's, or correct [geometry] in the study TOML",
            )


def _read_images(path: Path, study: Study) -> NDArray[np.uint8]:
    try:
        images = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise DataError(
            "no such file", file=path, hint="Prepare this source again with mssg prepare"
        ) from None
    except (ValueError, OSError, EOFError, OverflowError, SyntaxError, TokenError) as error:
        raise DataError(f"cannot be read as a NumPy array: {error}", file=path) from None
    wanted = (study.channels, study.resolution, study.resolution)
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != wanted:
        raise DataError(
            "images do not fit the study",
            file=path,
            found=f"{images.dtype} {list(images.shape)}",
            expected=f"uint8 [N, {study.channels}, {study.resolution}, {study.resolution}]",
            hint="Prepare the source at the study's resolution, or correct [image] in the study TOML",
        )
    return images
