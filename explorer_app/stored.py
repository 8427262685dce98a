"""The picture of the medians that a snapshot's header stores: shown, marked as stored, until one is drawn."""

from __future__ import annotations

import io

import numpy as np

from explorer_app.distribution import TrainingDistribution
from explorer_app.messages import Frame
from mssg.rendering.request import RenderRequest


def stored_frame(distribution: TrainingDistribution, request: RenderRequest) -> Frame | None:
    """The stored picture as a preview of a request; None where the request is for another one, or none that
    can be read is stored.
    """
    from PIL import Image

    study, preview = distribution.study, distribution.header.preview
    values = tuple(distribution.defaults().items())
    medians = RenderRequest(request.snapshot, mix_seed=request.mix_seed, covariates=values)
    if not preview or request != medians:
        return None
    try:
        with Image.open(io.BytesIO(preview), formats=("PNG",)) as image:
            if max(image.size) > study.resolution:
                return None
            whole = image.convert("L" if study.channels == 1 else "RGB")
    except (OSError, SyntaxError, ValueError):  # a picture is a convenience: the real one follows
        return None
    if whole.size[0] != study.resolution:
        whole = whole.resize((study.resolution, study.resolution), Image.Resampling.BICUBIC)
    return Frame(request, np.asarray(whole, np.float32), preview=True, stored=True)
