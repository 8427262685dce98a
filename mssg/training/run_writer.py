"""What a run leaves behind as it goes: rows, snapshots, sample grids, states, the best marker, the log."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from mssg.checkpoint.snapshot import provenance, save_snapshot
from mssg.errors import RunError
from mssg.files import sweep, write_atomically, write_json
from mssg.networks.latents import latents
from mssg.rendering.image_files import mosaic
from mssg.rendering.request import to_uint8
from mssg.rendering.stored_picture import stored_picture
from mssg.runs.rows import numbers, read_rows
from mssg.study.train_config import command
from mssg.training.batches import TrainingData
from mssg.training.run import Run
from mssg.training.state import TrainState
from mssg.training.stats import StatsLog
from mssg.training.summary import summarise

KEPT_STATES = 2
Progress = Callable[[Mapping[str, Any]], None]
"""Called with every row of stats.jsonl, and with {"event": text} for other news."""


class RunWriter:
    """Writes a run's files, and tells whoever watches; does nothing in any process but the main one.

    Args:
        data: What a snapshot says about the data.
    """

    def __init__(self, run: Run, data: TrainingData, progress: Progress | None) -> None:
        self._run, self._data, self._is_main = run, data, data.world.is_main
        self._progress: Progress = progress or (lambda _: None)
        if self._is_main:
            sweep(run.path)
            rng = np.random.default_rng([run.config.seed, 4])
            tables = [s.values[s.rows("train")] for s in data.sources]
            self._summary = summarise(data.study, tables, data.models, rng)
            made = [s.info for s in data.sources if s.info.get("semi_synthetic")]
            if origins := dict.fromkeys(str(info.get("origin", "made up")) for info in made):
                self._summary["origin"] = f"semi-synthetic: {'; '.join(origins)}"
            self._grid_z, self._grid_c = self._grid_inputs()

    def log(self, text: str) -> None:
        """Append a line to log.txt."""
        if self._is_main:
            with open(self._run.log_file, "a", encoding="utf-8") as file:
                file.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")

    def say(self, text: str, **more: Any) -> None:
        """One line for log.txt and for whoever watches, who is told `more` as well."""
        self.log(text)
        self.tell({"event": text, **more})

    def tell(self, news: Mapping[str, Any]) -> None:
        """A row, or an event, for whoever watches; a closed terminal or a full disk is no reason to stop."""
        if self._is_main:
            with suppress(OSError):
                self._progress(news)

    def begin(self, step: int) -> None:
        """Rows after this step are dropped, those that follow are appended."""
        if self._is_main:
            self._stats = StatsLog(self._run, self._run.config.kimg(step))

    def row(self, row: Mapping[str, Any]) -> None:
        """Append a row to stats.jsonl."""
        if self._is_main:
            self._stats.write(row)

    def snapshot(self, state: TrainState) -> None:
        """Write a snapshot and its sample grid."""
        if not self._is_main:
            return
        run, kimg = self._run, self._run.config.kimg(state.step)
        save_snapshot(
            run.snapshot(kimg),
            self._data.study,
            self._data.models,
            {"G_ema": state.G_ema, "G": state.G, "D": state.D},
            generator=state.G.config,
            discriminator=state.D.config,
            progress={"kimg": kimg, "step": state.step, "total_kimg": run.config.total_kimg},
            summary=self._summary,
            origin=provenance(run.config.seed, command(run.config, run.study))
            | {"train": run.config.to_json()},
            preview=stored_picture(state.G_ema, self._data.study, self._summary),
        )
        write_atomically(run.grid(kimg), self._grid(state), RunError)

    def mark_best(self, state: TrainState) -> None:
        """Name the snapshot of this step as the best so far."""
        if self._is_main:
            name = self._run.snapshot(self._run.config.kimg(state.step)).name
            write_atomically(self._run.best_file, name + "\n", RunError)

    def state(self, state: TrainState) -> None:
        """Write the training state, the point from which a killed run continues, and drop the oldest."""
        if self._is_main:
            state.save(self._run.state(state.step))
            for old in self._run.state_files()[KEPT_STATES:]:
                old.unlink()

    def diverged(self, state: TrainState, lost: Sequence[str], row: Mapping[str, Any]) -> None:
        """Leave `diverged.json` as a report on what became not finite."""
        if not self._is_main:
            return
        config = self._run.config
        rows = [*read_rows(self._run.stats_file)[-10:], row]
        report = {
            "kimg": config.kimg(state.step),
            "not_finite": list(lost),
            "setbacks": state.setbacks,
            "seed": config.seed,
            "learning_rates": {k: getattr(config, k) * 0.5**state.setbacks for k in ("g_lr", "d_lr")},
            "last_rows": [dict.fromkeys(r) | numbers(r) for r in rows],
        }
        write_json(self._run.divergence_file, report, RunError)
        self.log(f"stopped: {', '.join(lost)} not finite after {state.setbacks} setbacks")

    def _grid_inputs(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents and conditions of the sample grid: completed rows of the training tables, a latent each."""
        config, data = self._run.config, self._data
        n, rng = config.grid_images, np.random.default_rng([config.seed, 6])
        values, _ = data.loader.conditions(0, n)
        c = torch.from_numpy(data.study.encode(data.models.complete(values, rng)))
        z = latents(range(n), config.z_dim)
        return z.to(data.world.device), c.to(data.world.device)

    @torch.no_grad()
    def _grid(self, state: TrainState) -> bytes:
        """The sample grid as PNG."""
        from PIL import Image

        images = to_uint8(state.G_ema(self._grid_z, self._grid_c).float().cpu().numpy())
        sheet = mosaic(images, int(np.ceil(np.sqrt(len(images)))))
        buffer = io.BytesIO()
        Image.fromarray(sheet[..., 0] if sheet.shape[2] == 1 else sheet).save(buffer, "PNG")
        return buffer.getvalue()
