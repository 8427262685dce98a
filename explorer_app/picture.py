"""What a picture is asked to show: the part of the explorer's state that decides its pixels, hashable.

Equal pictures mean equal pixels, so results are cached and waited for by picture. Display settings (zoom,
window, colormap) are not part of it: they cost no rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, field

NOISE_MODES = ("const", "none", "random")


@dataclass(frozen=True)
class Latent:
    """Where in latent space: a seed with fractional offsets that blend four seeds, truncation, noise, style
    mixing.

    `x` and `y` are in seeds: (0.5, 0) is half way from `seed` to `seed + 1`; one step in y is 100 seeds, as
        in the
    StyleGAN3 visualizer. `mix_layers` take their style from `mix_seed`. `cutoff` None truncates every layer.
    """

    seed: int = 0
    x: float = 0.0
    y: float = 0.0
    psi: float = 1.0
    cutoff: int | None = None
    noise_mode: str = "const"
    noise_seed: int = 0
    mix_seed: int = 1
    mix_layers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Probe:
    """Which tensor is looked at: the image (layer "") or channels of a layer.

    `normalise` stretches the channels shown to the full grey range; without it they are multiplied by
    `gain_db`.
    """

    layer: str = ""
    channel: int = 0
    count: int = 1
    normalise: bool = True
    gain_db: float = 0.0


@dataclass(frozen=True)
class Transform:
    """Translation in fractions of the image and rotation in turns of 360 degrees put into an equivariant
    generator."""

    x: float = 0.0
    y: float = 0.0
    angle: float = 0.0
    untransform: bool = False


@dataclass(frozen=True)
class Picture:
    """Everything that decides a picture's pixels.

    `values` are native covariate values by name, in the study's order; `snapshot` is the path of the
    snapshot; `float32` forces full precision where the model would compute in float16 (on CUDA).
    """

    snapshot: str
    values: tuple[tuple[str, float], ...]
    latent: Latent = field(default_factory=Latent)
    probe: Probe = field(default_factory=Probe)
    transform: Transform = field(default_factory=Transform)
    float32: bool = False

    def __hash__(self) -> int:
        """Kept, for a window asks for it hundreds of times a frame."""
        found = self.__dict__.get("_hash")
        if found is None:
            found = hash((self.snapshot, self.values, self.latent, self.probe, self.transform, self.float32))
            object.__setattr__(self, "_hash", found)
        return found

    def __getstate__(self) -> dict[str, object]:
        """Without the hash: another process has other hashes of the same text."""
        return {k: v for k, v in self.__dict__.items() if k != "_hash"}
