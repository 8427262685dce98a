"""What a run leaves behind as it goes: ticks, validation, snapshots, sample grids, training states, the best
marker.

At a snapshot everything else is written first and the training state last: the state is the point from which
a killed run continues, and whatever was written after the state that survives is written again, the same.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import psutil
import torch

from mssg.checkpoint.snapshot import provenance, save_snapshot
from mssg.errors import RunError
from mssg.files import sweep, write_atomically, write_json
from mssg.metrics.sampling import to_uint8
from mssg.runs.rows import read_rows
from mssg.training.distributed import World
from mssg.training.run import Run
from mssg.training.stats import Meter, StatsLog
from mssg.training.summary import summarise
from mssg.training.validation import Validation

if TYPE_CHECKING:
    from mssg.networks.generator import Generator
    from mssg.training.loop import Material
    from mssg.training.step import Parts


def memory_gb(device: str) -> float:
    """Memory in use by this process, in GB: peak on a GPU, resident on a CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 1e9
    return psutil.Process().memory_info().rss / 1e9


class Keeper:
    """Writes a run's files; only the main process's keeper touches the disk."""

    def __init__(
        self,
        run: Run,
        world: World,
        material: Material,
        parts: Parts,
        G_ema: Generator,
        best: dict[str, float],
        report: Callable[[Mapping[str, Any]], None],
        first: int,
    ) -> None:
        self._run, self._world, self._material, self._parts, self._G_ema = run, world, material, parts, G_ema
        self._best, self._report = best or {"score": float("-inf"), "stale": 0}, report
        self.meter = Meter()
        self._started = self._ticked = time.perf_counter()
        self._first = self._ticked_step = first
        if world.is_main:
            sweep(run.path)
            rng = np.random.default_rng([run.config.seed, 4])
            tables = [s.values[s.rows("train")] for s in material.sources]
            self._summary = summarise(material.study, tables, material.models, rng)
            config = run.config
            self._validation = Validation(
                material.study,
                material.sources,
                material.models,
                config.metrics,
                config.metric_images,
                config.seed,
            )
            self._stats = StatsLog(run.path, self.kimg(first))
            self._grid_c, self._grid_z = self._grid_requests()
            verb = f"resumed at {self.kimg(first):.1f} kimg" if first else "started"
            self.say(
                f"{verb}: {config.total_kimg:g} kimg, batch {config.batch}, {config.cfg}, {world.size} x"
                f" {world.device}"
            )

    def say(self, text: str) -> None:
        """One line for log.txt and for whoever watches."""
        if self._world.is_main:
            self._run.log(text)
            self._report({"event": text})

    def kimg(self, step: int) -> float:
        """Thousands of images shown to D after `step` steps."""
        return step * self._run.config.batch / 1000

    def tick(self, step: int, weight: float) -> dict[str, Any]:
        """The row of stats.jsonl for the steps since the last tick."""
        means = self.meter.take(self._world)
        now = time.perf_counter()
        kimg, since = self.kimg(step), self.kimg(step - self._ticked_step)
        per_kimg = (now - self._ticked) / max(since, 1e-9)
        self._ticked, self._ticked_step = now, step
        return {
            "kimg": kimg,
            "elapsed_sec": now - self._started,
            "sec_per_kimg": per_kimg,
            "eta_sec": per_kimg * (self._run.config.total_kimg - kimg),
            **means,
            "lambda": weight,
            "ada_p": self._parts.augment.p,
            "memory_gb": memory_gb(self._world.device),
        }

    def save(self, step: int, evaluate: bool, row: dict[str, Any]) -> None:
        """Validation into `row`, snapshot, sample grid, best marker."""
        if not self._world.is_main:
            return
        kimg, run = self.kimg(step), self._run
        score = None
        if evaluate:
            values, score = self._validation(self._G_ema, self._parts.D, self._world.device)
            row |= values
        path = run.snapshot(kimg)
        save_snapshot(
            path,
            self._material.study,
            self._material.models,
            {"G_ema": self._G_ema, "G": self._parts.G, "D": self._parts.D},
            self._parts.G.config,
            self._parts.D.config,
            {"kimg": kimg, "step": step, "total_kimg": run.config.total_kimg},
            self._summary,
            provenance(run.config.seed, "mssg-train") | {"train": run.config.to_json()},
        )
        self._grid(run.grids / f"{round(kimg):06d}.png")
        if score is not None:
            better = score > self._best["score"]
            self._best = (
                {"score": score, "stale": 0} if better else self._best | {"stale": self._best["stale"] + 1}
            )
            if better:
                run.mark_best(path)

    def commit(
        self, step: int, row: Mapping[str, Any], state: Callable[[dict[str, float]], bytes] | None
    ) -> bool:
        """Write the tick's row and, last of all, the training state; True if training should stop here."""
        if self._world.is_main:
            self._stats.write(row)
            if state:
                self.keep_state(step, state)
            self._report(row)
        patience = self._run.config.patience
        stop = bool(patience) and self._best["stale"] >= patience
        if stop:
            self.say(f"stopped early: no better for {patience} evaluations")
        return stop

    def keep_state(self, step: int, state: Callable[[dict[str, float]], bytes]) -> None:
        """Write the training state of a step, and drop the oldest."""
        if self._world.is_main:
            write_atomically(self._run.states / f"{step:09d}.pt", state(self._best), RunError)
            self._run.prune_states()

    def rewind(self, step: int, best: dict[str, float]) -> None:
        """Go on from an earlier step, as a resumed run does."""
        self._best = best or self._best
        self._ticked, self._ticked_step = time.perf_counter(), step
        if self._world.is_main:
            self._stats = StatsLog(self._run.path, self.kimg(step))

    def diverged(self, step: int, lost: list[str], setbacks: int, row: Mapping[str, Any]) -> NoReturn:
        """Stop for good, leaving `diverged.json` as a report.

        Raises:
            RunError: Always.
        """
        file = self._run.path / "diverged.json"
        if self._world.is_main:
            rows = [*read_rows(self._run.path / "stats.jsonl")[-10:], row]
            report = {
                "kimg": self.kimg(step),
                "not_finite": lost,
                "setbacks": setbacks,
                "seed": self._run.config.seed,
                "learning_rates": {k: getattr(self._run.config, k) * 0.5**setbacks for k in ("g_lr", "d_lr")},
                "last_rows": [
                    {k: v if np.isfinite(v) else None for k, v in r.items() if v is not None} for r in rows
                ],
            }
            write_json(file, report, RunError)
            self._run.log(f"stopped: {', '.join(lost)} not finite after {setbacks} setbacks")
        raise RunError(
            f"training diverges: not finite even with learning rates / {2**setbacks}: {', '.join(lost[:3])}",
            file=file,
            found=f"at {self.kimg(step):.1f} kimg",
            hint=(
                "Start a new run from this one's last snapshot (--init-from) with lower learning rates or a"
                " larger --gamma"
            ),
        )

    def close(self, step: int, finished: bool) -> None:
        """Last words."""
        if self._world.is_main:
            text = f"{'finished' if finished else 'stopped'} at {self.kimg(step):.1f} kimg"
            text += "" if finished else f"; continue with: mssg-train --resume {self._run.path}"
            self._run.log(text)
            self._report({"event": text, "stopped": not finished})

    def _grid_requests(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Conditions and latents of the sample grid: rows of the training tables, completed; one latent
        each."""
        n, rng = self._run.config.grid_images, np.random.default_rng([self._run.config.seed, 6])
        values, _ = self._material.loader.conditions(0, n)
        c = self._material.study.encode(self._material.models.complete(values, rng))
        z = rng.standard_normal((n, self._run.config.z_dim), dtype=np.float32)
        return torch.from_numpy(c).to(self._world.device), torch.from_numpy(z).to(self._world.device)

    @torch.no_grad()
    def _grid(self, path: Path) -> None:
        from PIL import Image

        images = to_uint8(self._G_ema(self._grid_z, self._grid_c))
        n, channels, height, width = images.shape
        columns = int(np.ceil(np.sqrt(n)))
        canvas = np.zeros((-(-n // columns) * columns, channels, height, width), np.uint8)
        canvas[:n] = images
        sheet = canvas.reshape(-1, columns, channels, height, width).transpose(0, 3, 1, 4, 2)
        sheet = sheet.reshape(-1, columns * width, channels)
        buffer = io.BytesIO()
        Image.fromarray(sheet[..., 0] if channels == 1 else sheet).save(buffer, "PNG")
        write_atomically(path, buffer.getvalue(), RunError)
