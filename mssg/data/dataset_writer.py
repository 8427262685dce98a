"""Prepared sources written: a folder appears complete or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg.data.dataset import FORMAT_VERSION, IMAGES, INFO, TABLE, file_hash
from mssg.data.split import SPLITS
from mssg.data.table import KEYS, check_keys, read_table, write_table
from mssg.errors import DataError
from mssg.files import reserve, write_json


def write_packed(
    out_dir: str | os.PathLike[str],
    images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]],
    table: Mapping[str, Sequence[Any] | np.ndarray],
    info: Mapping[str, Any],
) -> Path:
    """Write a prepared source; the folder appears complete or not at all.

    Args:
        out_dir: Folder to make. One that holds a prepared source already is replaced; any other is refused.
        images: uint8 [N,C,H,W], or an iterable of [C,H,W], one for each row of the table.
        table: Column name -> values [N]: `subject` and `split` (`session` may be left out), covariates and
            other truth in native units. NaN, None and "" are written as empty.
        info: What source.json should say: how it was made, geometry, licence.

    Returns:
        The folder.

    Raises:
        DataError: Counts, types or splits that do not fit, the folder holds something else or cannot be
            written.
    """
    out = Path(out_dir)
    columns = {"subject": table.get("subject", ()), "session": table.get("session"), **table}
    if columns["session"] is None:
        columns["session"] = [""] * len(columns["subject"])
    columns = {
        name: columns[name] for name in (*KEYS, *(n for n in columns if n not in KEYS)) if name in columns
    }
    rows = len(columns["subject"])
    for name, column in columns.items():
        if len(column) != rows:
            raise DataError(
                "column of another length", file=out, field=name, found=len(column), expected=rows
            )
    check_target(out)
    draft = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".tmp", dir=out.parent))
    try:
        shape = _write_images(draft / IMAGES, images, rows)
        write_table(draft / TABLE, columns)
        check_keys(draft / TABLE, read_table(draft / TABLE), rows)
        _write_info(draft, info, columns, shape)
        draft.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=out) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return out


def check_target(out: Path) -> None:
    """Make sure that a prepared source can be written here, before any work is done.

    Args:
        out: The source's folder; its parents are made.

    Raises:
        DataError: It holds something else, or its parent cannot be written to.
    """
    try:
        if out.exists() and not (out.is_dir() and ((out / INFO).is_file() or not any(out.iterdir()))):
            raise DataError(
                "exists and is no prepared source", file=out, hint="Choose another folder or empty this one"
            )
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=out) from None
    if not os.access(out.parent, os.W_OK):
        raise DataError("cannot be written: no permission", file=out.parent)


def new_images(path: Path, shape: tuple[int, ...]) -> np.memmap[Any, np.dtype[np.uint8]]:
    """An array of images in a file, all of whose room on the disk is kept for it.

    Raises:
        DataError: There is not so much room.
    """
    try:
        store = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
    except OSError as error:
        raise DataError(f"cannot be written: {error.strerror or error}", file=path) from None
    reserve(path, DataError)
    return store


def _write_images(
    path: Path, images: NDArray[np.uint8] | Iterable[NDArray[np.uint8]], rows: int
) -> tuple[int, ...]:
    """Write one image after the other; returns the array's shape."""
    store, count, shape = None, 0, (0, 0, 0, 0)
    for count, image in enumerate(images, 1):
        image = np.asarray(image)
        if store is None:
            shape = (rows, *image.shape)
            if rows and image.ndim == 3 and image.dtype == np.uint8:
                store = new_images(path, shape)
        if store is None or image.dtype != np.uint8 or image.shape != shape[1:] or count > rows:
            break
        store[count - 1] = image
    else:
        if store is not None and count == rows:
            store.flush()
            return shape
    raise DataError(
        "images and table do not fit",
        file=path,
        found=f"image {count} of {rows}, shape {list(shape[1:])}",
        expected="uint8 images [C,H,W] of one size, as many as rows",
    )


def _write_info(
    folder: Path,
    info: Mapping[str, Any],
    columns: Mapping[str, Sequence[Any] | np.ndarray],
    shape: tuple[int, ...],
) -> None:
    splits = np.asarray(columns["split"])
    document = {
        "format_version": FORMAT_VERSION,
        **info,
        "images": dict(zip(("count", "channels", "height", "width"), shape)),
        "counts": {name: int(np.sum(splits == name)) for name in SPLITS},
        "subjects": len({str(s) for s in columns["subject"]}),
        "columns": [name for name in columns if name not in KEYS],
        "sha256": {name: file_hash(folder / name) for name in (IMAGES, TABLE)},
    }
    write_json(folder / INFO, document, DataError)
