"""Pickles of the official code, read by ours: `python tests/benchmarks/official_pickles.py --official DIR`.

DIR is a checkout of NVlabs/stylegan3 or NVlabs/stylegan2-ada-pytorch, or one of stylegan3 over which
`stylegan3/training` of weslai/msstylegans has been copied. A process of its own imports that code, builds
conditional networks of 32 pixels with random weights, draws with them and writes them as its trainer would,
source text and all. This process never sees that code: it reads the file and compares. Half a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
ALLOWED = 1e-4
SMALL = dict(z_dim=16, c_dim=3, w_dim=24, img_resolution=32, img_channels=3)
WIDTHS = dict(channel_base=1024, channel_max=64)
# title -> module, its Generator's further arguments, the first module found in a checkout decides which apply
STYLEGAN3 = {
    "StyleGAN2": ("networks_stylegan2", dict(WIDTHS, mapping_kwargs=dict(num_layers=4))),
    "StyleGAN3-T": ("networks_stylegan3", dict(WIDTHS, num_layers=6, mapping_kwargs=dict(num_layers=2))),
    "StyleGAN3-R": (
        "networks_stylegan3",
        dict(WIDTHS, num_layers=6, conv_kernel=1, use_radial_filters=True, mapping_kwargs=dict(num_layers=2)),
    ),
}
STYLEGAN2 = {
    "StyleGAN2": ("networks", dict(synthesis_kwargs=dict(WIDTHS), mapping_kwargs=dict(num_layers=4)))
}


def make(official: Path, out: Path, seed: int) -> None:
    """In a process of its own: networks, what they draw, and their pickles.

    Args:
        official: The checkout, put on the path.
        out: Receives TITLE.pkl, TITLE.npz and titles.json.
        seed: Of weights and latents.
    """
    sys.path.insert(0, str(official))
    import importlib
    import pickle
    import types

    import torch
    from packaging.version import parse

    stand_in = types.ModuleType(
        "pkg_resources"
    )  # what stylegan3 takes from setuptools, which no longer has it
    stand_in.parse_version = parse  # type: ignore[attr-defined]
    sys.modules.setdefault("pkg_resources", stand_in)

    util = importlib.import_module("dnnlib").EasyDict
    kinds = STYLEGAN3 if (official / "training" / "networks_stylegan3.py").exists() else STYLEGAN2
    judge = importlib.import_module(f"training.{kinds['StyleGAN2'][0]}").Discriminator
    pipe = importlib.import_module("training.augment").AugmentPipe
    torch.manual_seed(seed)

    def stirred(network: Any) -> Any:
        """Biases, noise strengths and means start at constants, which would hide a mistake."""
        for name, value in [*network.named_parameters(), *network.named_buffers()]:
            if name.endswith(("bias", "noise_strength", "w_avg", "magnitude_ema")):
                value.data.add_(torch.randn_like(value).abs() * 0.1)
        return network.eval().requires_grad_(False)

    z, c = torch.randn(4, SMALL["z_dim"]), torch.randn(4, SMALL["c_dim"])
    for title, (module, arguments) in kinds.items():
        G = stirred(importlib.import_module(f"training.{module}").Generator(**SMALL, **util(arguments)))
        D = stirred(judge(SMALL["c_dim"], SMALL["img_resolution"], SMALL["img_channels"], **WIDTHS))
        augment = pipe(xflip=1, scale=1)
        augment.p.copy_(torch.as_tensor(0.25))
        images = {
            str(psi): G(z, c, truncation_psi=psi, noise_mode="const", force_fp32=True) for psi in (1, 0.7)
        }
        logits = D(images["1"], c, force_fp32=True)
        held = {psi: image.numpy() for psi, image in images.items()}
        np.savez(out / f"{title}.npz", z=z.numpy(), c=c.numpy(), logits=logits.numpy(), **held)
        content = dict(
            G=G, D=D, G_ema=G, augment_pipe=augment, training_set_kwargs=util(path="x", use_labels=True)
        )
        with open(out / f"{title}.pkl", "wb") as file:
            pickle.dump(content, file)
    (out / "titles.json").write_text(json.dumps(list(kinds)))


def compare(folder: Path, title: str) -> dict[str, float]:
    """Largest absolute differences between what the official code drew and what ours draws from its
    pickle."""
    import torch

    from mssg.checkpoint.legacy import read_official_pickle

    found = read_official_pickle(folder / f"{title}.pkl")
    data = np.load(folder / f"{title}.npz", allow_pickle=False)
    z, c = torch.tensor(data["z"]), torch.tensor(data["c"])
    if found.D is None or found.augment_p != 0.25 or not found.training_set_kwargs["use_labels"]:
        raise SystemExit(f"{title}: parts of the pickle did not come through")
    figures = {}
    for psi in ("1", "0.7"):
        image = found.G_ema(z, c, truncation_psi=float(psi), truncation_cutoff=None, noise_mode="const")
        figures[f"image, psi {psi}"] = float(np.abs(image.numpy() - data[psi]).max())
    figures["D"] = float(np.abs(found.D(torch.tensor(data["1"]), c).numpy() - data["logits"]).max())
    figures["largest pixel"] = float(np.abs(data["1"]).max())
    return figures


def main() -> None:
    """Measure, print, write; exit code 1 where a difference is above what is allowed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--official", type=Path, required=True, help="a checkout of the official code")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--json", type=Path)
    options.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args()
    official = given.official.resolve()
    if given.make:
        make(official, given.make, given.seed)
        return
    if not (official / "torch_utils" / "persistence.py").exists():
        options.error(
            f"{given.official} is no checkout of the official code: torch_utils/persistence.py is missing"
        )
    figures = {}
    with tempfile.TemporaryDirectory(prefix="official") as name:
        words = [__file__, "--official", str(official), "--seed", str(given.seed), "--make", name]
        done = subprocess.run(
            [sys.executable, *words],
            env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"the official code did not run here:\n{done.stderr[-2000:]}")
        for title in json.loads((Path(name) / "titles.json").read_text()):
            figures[title] = compare(Path(name), title)
            print(f"{title}: " + ", ".join(f"{key} {value:.2g}" for key, value in figures[title].items()))
    named = {module.split(".")[0] for module in sys.modules} & {"torch_utils", "dnnlib", "training"}
    worst = max(value for row in figures.values() for key, value in row.items() if key != "largest pixel")
    print(
        f"largest difference {worst:.2g} (allowed {ALLOWED}); official modules imported here:"
        f" {sorted(named) or 'none'}"
    )
    if given.json:
        given.json.write_text(json.dumps({"seed": given.seed, **figures}, indent=1) + "\n")
    sys.exit(1 if worst > ALLOWED or named else 0)


if __name__ == "__main__":
    main()
