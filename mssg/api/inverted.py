"""A real image as a latent of a model: draw it again, with other covariates."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from mssg.api.arguments import argument_errors, broadcast, checked_path, native, shown, stated
from mssg.api.session import LoadedSnapshot
from mssg.errors import UsageError
from mssg.files import make_folder
from mssg.inversion.latent_file import InvertedImage
from mssg.rendering.request import RenderRequest


class Inverted:
    """A real image, explained by a model: what `Model.invert` gives.

    Attributes:
        values: The covariates it is explained with, in native units: given, or read off the image.
        how: Covariate name -> where its value comes from: "given", "oracle-…" or "discriminator".
        error: How far the reconstruction is from the image: root of the mean squared difference, in grey
            levels of 0 to 255.
    """

    def __init__(self, session: LoadedSnapshot, image: InvertedImage) -> None:
        self._session, self._image = session, image
        self._latent = image.stored_latent()
        study = session.study
        row = zip(study.conditions, image.inversion.values[0].tolist())
        self.values: dict[str, float | int | str] = {c.name: shown(c, v) for c, v in row}
        self.how: dict[str, str] = dict(image.how)
        (reconstruction,) = session.pictures([RenderRequest(latent=self._latent)])
        target = image.image[0] if len(image.image) == 1 else image.image.transpose(1, 2, 0)
        difference = reconstruction.array.astype(np.float64) - target
        self.error = float(np.sqrt(np.square(difference).mean()))

    def draw(self, *, values: Mapping[str, Any] | None = None, source: Any = None, **covariates: Any) -> Any:
        """The image with other covariates; without any, its reconstruction.

        Args:
            values: Covariate name -> native value or list of them, for names that are no keywords.
            source: The source's name, where the model is told it.
            covariates: Further covariates. What is not stated stays as it is in the image.

        Returns:
            A `Picture`; a list of them where anything is a list.

        Raises:
            ArgumentError: An unknown name, a wrong value, or lists of different lengths.
        """
        study = self._session.study
        wanted = stated(study, values, covariates, source)
        rows, many = broadcast(list(wanted.items()))
        requests = [
            RenderRequest(
                latent=self._latent,
                covariates=tuple((name, native(study.covariate(name), v)) for name, v in zip(wanted, row)),
            )
            for row in rows
        ]
        pictures = self._session.pictures(requests)
        return pictures if many else pictures[0]

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a .safetensors file, for `mssg generate --w` and `mssg figure counterfactuals`.

        The file holds the image: treat it like the image itself.

        Raises:
            ArgumentError: Another ending, or a place that cannot be written.
        """
        path = checked_path(path, ".safetensors")
        with argument_errors():
            make_folder(path.parent, UsageError)
            return self._image.save(path)

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value!r}" for name, value in self.values.items())
        return f"<Inverted image, error {self.error:.1f} grey levels: {values}>"
