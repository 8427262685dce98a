"""A cohort's folder: a BIDS derivative data set where the study has a geometry, else PNGs as the official
StyleGAN tools read them. Every file holds what it takes to draw it again, and is whole or not there.

Source: BIDS 1.9 (Gorgolewski et al. 2016); docs/reference/formats.md "Cohort".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mssg import assets
from mssg.checkpoint.header import Header
from mssg.data import nifti
from mssg.errors import UsageError
from mssg.files import make_folder, parse_json, write_atomically
from mssg.rendering import image_files
from mssg.rendering.command_line import generate_command, volume_command
from mssg.rendering.request import to_uint8
from mssg.rendering.volume import DrawnVolume, describe_volume, volume_image
from mssg.study.values import number
from mssg.synthetic.people import Person, person_id

PER_FOLDER = 1000
"""PNGs in one folder, as the official tools put them."""


@dataclass(frozen=True)
class Row:
    """What a person's files say: the row of participants.tsv.

    Attributes:
        values: Covariate -> native value, or the name of a level.
        support: Support percentile, or None.
        seed: Of the latent.
        copies: Pictures before this one that were too near to a training image; None where nobody looked.
    """

    index: int
    values: Mapping[str, float | str]
    support: float | None
    seed: int
    copies: int | None

    @property
    def id(self) -> str:
        """The person's id."""
        return person_id(self.index)


def snapshot_name(header: Header) -> str:
    """What commands in a cohort call its snapshot: a shipped name, or the file's without its folders."""
    path = header.path.resolve()
    return path.stem if path.parent == (assets.root() / "snapshots").resolve() else path.name


@dataclass(frozen=True)
class CohortFolder:
    """Where the pictures of a cohort lie."""

    path: Path
    header: Header

    @property
    def is_bids(self) -> bool:
        """Whether pictures are NIfTI files in millimetres."""
        return self.header.study.geometry is not None and self.header.study.channels == 1

    def picture(self, index: int) -> Path:
        """A person's picture."""
        if self.is_bids:
            name = person_id(index)
            return self.path / name / "anat" / f"{name}_T1w.nii.gz"
        return self.path / "images" / f"{index // PER_FOLDER:05d}" / f"img{index:08d}.png"

    def label_name(self, index: int) -> str:
        """What dataset.json calls a PNG."""
        return self.picture(index).relative_to(self.path).as_posix()

    def write(
        self, person: Person, image: NDArray[np.float32] | DrawnVolume, copies: int | None = None
    ) -> None:
        """Write a person's picture and what it is.

        Args:
            image: float32 [C, H, W] as the generator gives it, about -1 to 1; or a whole head.
            copies: As in `Row`.

        Raises:
            UsageError: It cannot be written.
        """
        path, header = self.picture(person.index), self.header
        stated = dict(zip(header.study.condition_names, person.values))
        make_folder(path.parent, UsageError)
        document = {
            "Synthetic": True,
            "Participant": person.id,
            **self._described(person, image, stated),
            "Support": person.support,
            **({} if copies is None else {"CopiesReplaced": copies}),
        }
        if isinstance(image, DrawnVolume):
            self._write_nifti(path, volume_image(image, header), document)
        elif self.is_bids:
            picture = image_files.nifti_image(image_files.to_grey(image)[None], header, person.request)
            if not int(picture.header["sform_code"]):  # BIDS wants a place: each person's own
                picture.set_sform(picture.affine, nifti.SCANNER)
                picture.set_qform(picture.affine, nifti.SCANNER)
            self._write_nifti(path, picture, document)
        else:
            command = document["GeneratedBy"][0]["Command"]
            text = image_files.png_text(header, [person.request], [stated], command) | {
                "mssg": json.dumps(document)
            }
            pixels = to_uint8(image)
            pixels = pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)
            write_atomically(path, image_files.encode_png(pixels, text), UsageError, lasting=False)

    def _described(
        self, person: Person, image: NDArray[np.float32] | DrawnVolume, stated: Mapping[str, float]
    ) -> dict[str, Any]:
        """What a picture is, with the command that draws it alone."""
        header, name, request = self.header, snapshot_name(self.header), person.request
        if isinstance(image, DrawnVolume):
            place = header.study.position
            own = replace(request, covariates=tuple(pair for pair in request.covariates if pair[0] != place))
            command = volume_command(own, header.study, name, None, output="picture.nii.gz")
            return describe_volume(image, header, own, [stated], sweep=None, command=command)
        output = "picture.nii.gz" if self.is_bids else "picture.png"
        command = generate_command(request, header.study, name, output)
        return image_files.describe(header, [request], [stated], None, command)

    def _write_nifti(self, path: Path, picture: Any, document: Mapping[str, Any]) -> None:
        """The picture, then its sidecar: who has one has both."""
        write_atomically(path, nifti.to_bytes(picture, path), UsageError, lasting=False)
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
        write_atomically(nifti.sidecar(path), text, UsageError, lasting=False)

    def has(self, index: int) -> bool:
        """Whether a person's files are there."""
        path = self.picture(index)
        return (nifti.sidecar(path) if self.is_bids else path).is_file()

    def read(self, index: int) -> Row | None:
        """What a person's files say; None where they are not there, or damaged."""
        path = self.picture(index)
        try:
            text = nifti.sidecar(path).read_bytes() if self.is_bids else _png_document(path)
            document = parse_json(text)
            if not path.stat().st_size or document["Snapshot"]["Id"] != self.header.snapshot_id:
                return None
            stated = {name: entry["Value"] for name, entry in document["Covariates"].items()}
            values = {c.name: stated[c.name] for c in self.header.study.personal_conditions}
            support, seed = document["Support"], document["Seed"]
            return Row(index, values, support, seed, copies=document.get("CopiesReplaced"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def others(self, indices: range) -> int:
        """How many people lie in the folder beside these."""
        if self.is_bids:
            found = (entry.name for entry in self.path.glob("sub-syn*"))
            numbers = (name.removeprefix("sub-syn") for name in found)
        else:
            numbers = (entry.stem.removeprefix("img") for entry in self.path.glob("images/*/img*.png"))
        return sum(number.isdecimal() and int(number) not in indices for number in numbers)


def own_columns(header: Header) -> tuple[str, str]:
    """Names of the columns of support and seed: other ones where covariates are called so.

    Raises:
        UsageError: A covariate is called as the column of ids.
    """
    taken = header.study.condition_names
    if "participant_id" in taken:
        raise UsageError(
            "BIDS tables have this column for ids",
            field="participant_id",
            hint="Give the covariate another name",
        )
    support, seed = (name if name not in taken else f"mssg_{name}" for name in ("support", "seed"))
    return support, seed


def table_lines(header: Header, rows: Iterator[Row]) -> Iterator[str]:
    """participants.tsv, line by line."""
    names = [c.name for c in header.study.personal_conditions]
    yield "\t".join(("participant_id", *names, *own_columns(header))) + "\n"
    for row in rows:
        cells = [_cell(row.values[name]) for name in names]
        yield "\t".join((row.id, *cells, _cell(row.support), str(row.seed))) + "\n"


def _cell(value: float | str | None) -> str:
    return "n/a" if value is None else value if isinstance(value, str) else number(value)


def _png_document(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        image.load()
        return image.info["mssg"]
