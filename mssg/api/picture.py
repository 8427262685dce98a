"""A picture that knows what it shows and how to draw it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mssg.api.arguments import argument_errors, checked_path, shown
from mssg.checkpoint.header import Header
from mssg.errors import UsageError
from mssg.files import make_folder, write_atomically
from mssg.rendering import image_files
from mssg.rendering.command_line import generate_command, private_command
from mssg.rendering.request import RenderRequest, to_uint8

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True, eq=False, repr=False)
class Picture:
    """One picture of a model.

    Attributes:
        array: Grey levels uint8 [H, W], or colours uint8 [H, W, 3].
        values: Every covariate in native units: numbers, 0 or 1, or the name of a level.
        seed: Seed of its latent; None for an inverted image.
        request: What was asked for; equal requests give equal pictures.
    """

    array: NDArray[np.uint8]
    values: Mapping[str, float | int | str]
    seed: int | None
    request: RenderRequest
    _grey: NDArray[np.float32]  # [C, H, W], 0 to 255, not rounded
    _stated: Mapping[str, float]  # every covariate as the study's files hold it
    _header: Header
    _snapshot: str  # as the caller named it

    @classmethod
    def of(
        cls,
        request: RenderRequest,
        image: NDArray[np.float32],
        stated: Mapping[str, float],
        header: Header,
        snapshot: str,
    ) -> Picture:
        """A picture of what a renderer gives.

        Args:
            request: What was drawn.
            image: float32 [C, H, W], about -1 to 1.
            stated: Native value of every condition.
            header, snapshot: What drew it, and its name.
        """
        array = to_uint8(image)
        array = array[0] if len(array) == 1 else np.ascontiguousarray(array.transpose(1, 2, 0))
        values = {name: shown(header.study.covariate(name), value) for name, value in stated.items()}
        seed = None if request.latent else request.seed
        grey = image_files.to_grey(image)
        return cls(array, values, seed, request, grey, stated, header, snapshot)

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture with its provenance: the bytes that `mssg generate` writes.

        Args:
            path: .png, with text inside; or .nii.gz or .nii in the study's millimetres, with a .json beside
                it. Folders are made as needed.

        Raises:
            ArgumentError: Another ending, a study without geometry for NIfTI, or a place that cannot be
                written.
        """
        path = checked_path(path, ".png", *image_files.NIFTI_SUFFIXES)
        with argument_errors():
            if path.suffix.lower() == ".png":
                make_folder(path.parent, UsageError)
                write_atomically(path, self._png(str(path)), UsageError)
                return path
            image_files.check_nifti(self._header, [], 1)
            make_folder(path.parent, UsageError)
            image_files.save_nifti(
                path=path,
                images=self._grey[None],
                header=self._header,
                requests=[self.request],
                stated=[self._stated],
                sweep=None,
                command=self._command(str(path)),
            )
        return path

    def to_pil(self) -> Image.Image:
        """The picture as a PIL image, "L" or "RGB"."""
        from PIL import Image

        return Image.fromarray(self.array)

    def to_nifti(self) -> Any:
        """The picture as a nibabel image of one slice, which lies where the study says; an edited image where
        the image itself does.

        Raises:
            ArgumentError: The study states no geometry, or the picture is in colour.
        """
        with argument_errors():
            return image_files.nifti_image(self._grey[None], self._header, self.request)

    def _repr_png_(self) -> bytes:
        """How a notebook shows it."""
        return self._png("picture.png")

    def _png(self, path: str) -> bytes:
        about = image_files.png_text(self._header, [self.request], [self._stated], self._command(path))
        return image_files.encode_png(self.array, about)

    def _command(self, path: str) -> str:
        """How to draw it again."""
        return private_command(generate_command(self.request, self._header.study, self._snapshot, path))

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.array.shape[:2]))
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"<Picture {size}, seed {self.seed}: {values}>"
