"""What a network is made of, as frozen dataclasses that travel in snapshots."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mssg.errors import SnapshotError, UsageError

STYLEGAN2, STYLEGAN3_T, STYLEGAN3_R = "stylegan2", "stylegan3-t", "stylegan3-r"
GENERATOR_KINDS = (STYLEGAN2, STYLEGAN3_T, STYLEGAN3_R)
COVARIATES, PROJECTION = "covariates", "projection"
DISCRIMINATOR_HEADS = (COVARIATES, PROJECTION)
SMALLEST_RESOLUTION, LARGEST_RESOLUTION = 32, 1024
MOST_SLICES = 2
MOST_FREQUENCIES = 12  # the finest then has a period of a 500th of the unit
WIDEST, DEEPEST, LARGEST_BASE = 65536, 100, 2**26  # far beyond what anybody trains


class _Config:
    """JSON form and widths, shared by both configurations."""

    channel_base: int
    channel_max: int
    channel_min: int

    def channels(self, resolution: int) -> int:
        """Feature maps of StyleGAN2 and of a discriminator at a resolution."""
        return max(min(self.channel_base // resolution, self.channel_max), self.channel_min)

    def _fill_in(self, **defaults: object) -> None:
        """Give what was left None its default."""
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def to_json(self) -> dict[str, Any]:
        """Every field, resolved, as JSON values."""
        return asdict(self)  # type: ignore[call-overload]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Read the JSON form back; absent fields take their defaults.

        Raises:
            SnapshotError: A field is unknown, or has a value of the wrong type or out of range.
        """
        known = {f.name for f in fields(cls)}  # type: ignore[arg-type]
        unknown = sorted(set(values) - known)
        if unknown:
            raise SnapshotError(
                f"unknown {cls.__name__} field",
                field=unknown[0],
                expected="one of " + ", ".join(sorted(known)),
                hint="The file may come from a newer version of mssg",
            )
        try:
            return cls(**values)
        except UsageError as error:
            raise SnapshotError(
                error.message, field=error.field, found=error.found, expected=error.expected, hint=error.hint
            ) from error
        except TypeError as error:
            raise SnapshotError("a field has the wrong type", field=cls.__name__, found=error) from error


def _check_image(resolution: int, channels: int) -> None:
    power_of_two = isinstance(resolution, int) and resolution > 0 and resolution & (resolution - 1) == 0
    if not power_of_two or not SMALLEST_RESOLUTION <= resolution <= LARGEST_RESOLUTION:
        raise UsageError(
            "the image resolution does not fit the networks",
            field="img_resolution",
            found=resolution,
            expected=f"a power of two from {SMALLEST_RESOLUTION} to {LARGEST_RESOLUTION}",
            hint="Resize or pad the images when preparing the data",
        )
    if channels not in (1, 3):
        raise UsageError(
            "images have 1 or 3 channels", field="img_channels", found=channels, expected="1 or 3"
        )


def _check_whole(config: Any, least: int, most: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(
                "not a possible size", field=name, found=value, expected=f"an integer from {least} to {most}"
            )


def _check_channels(config: Any) -> None:
    _check_whole(config, 1, LARGEST_BASE, "channel_base")
    _check_whole(config, 1, WIDEST, "channel_max")
    _check_whole(config, 1, config.channel_max, "channel_min")
    if config.channel_base < config.img_resolution:
        raise UsageError(
            "no feature map is left at the full resolution",
            field="channel_base",
            found=config.channel_base,
            expected=f">= img_resolution = {config.img_resolution}",
        )


def _check_decay(config: Any, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise UsageError("not a possible decay", field=name, found=value, expected="a number from 0 to 1")


def _check_number(config: Any, least: float, most: float, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
            raise UsageError(
                "not a possible value",
                field=name,
                found=value,
                expected=f"a number from {least:g} to {most:g}",
            )


def _check_clamp(clamp: float | None) -> None:
    if clamp is not None and not clamp > 0:
        raise UsageError("the clamp is positive", field="conv_clamp", found=clamp, expected="> 0, or none")


@dataclass(frozen=True)
class GeneratorConfig(_Config):
    """Everything that determines a generator's architecture.

    Args:
        kind: stylegan2, stylegan3-t or stylegan3-r.
        z_dim, c_dim, w_dim: Lengths of latent, condition (0 = unconditional) and intermediate latent.
        img_resolution: Pixels along each side, a power of two.
        img_channels: 1 or 3.
        channel_base, channel_max, channel_min: Feature maps at resolution r: channel_base / r, within the
            other two. Official networks know no least number.
        mapping_layers: Depth of the mapping network; None = 8 for StyleGAN2, 2 for StyleGAN3.
        mapping_lr_multiplier: Learning-rate multiplier of its layers.
        embed_features, layer_features: Its widths; None = w_dim.
        w_avg_beta: Decay of the running mean of w.
        conv_clamp: Limit of every layer's output magnitude; None = no limit.
        num_fp16_res: On CUDA, the highest resolutions that run in float16 (0 = none). Ignored on the CPU.
        num_layers, num_critical, first_cutoff, first_stopband, last_stopband_rel, margin_size, output_scale,
        filter_size, lrelu_upsampling, magnitude_ema_beta: StyleGAN3's design (Karras et al. 2021, section 3).
        conv_kernel: StyleGAN3's kernel size; None = 3 for T, 1 for R.
        radial_filters: StyleGAN3's radially symmetric downsampling; None = only for R.
        image_noise: The finished picture gets noise with a strength of its own at every pixel.
        position_index, position_frequencies: Which number of the condition says where a slice lies, and how
            many sines and cosines of it the mapping network embeds beside it; 0 = none.
    """

    kind: str = STYLEGAN2
    z_dim: int = 512
    c_dim: int = 0
    w_dim: int = 512
    img_resolution: int = 256
    img_channels: int = 1
    channel_base: int = 16384
    channel_max: int = 512
    channel_min: int = 1
    mapping_layers: int = None  # type: ignore[assignment]
    mapping_lr_multiplier: float = 0.01
    embed_features: int = None  # type: ignore[assignment]
    layer_features: int = None  # type: ignore[assignment]
    w_avg_beta: float = 0.998
    conv_clamp: float | None = 256.0
    num_fp16_res: int = 4
    num_layers: int = 14
    num_critical: int = 2
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin_size: int = 10
    output_scale: float = 0.25
    filter_size: int = 6
    lrelu_upsampling: int = 2
    magnitude_ema_beta: float = 0.999
    conv_kernel: int = None  # type: ignore[assignment]
    radial_filters: bool = None  # type: ignore[assignment]
    image_noise: bool = False
    position_index: int = 0
    position_frequencies: int = 0

    def __post_init__(self) -> None:
        if self.kind not in GENERATOR_KINDS:
            raise UsageError(
                "unknown generator", field="kind", found=self.kind, expected=" or ".join(GENERATOR_KINDS)
            )
        self._fill_in(
            mapping_layers=8 if self.kind == STYLEGAN2 else 2,
            embed_features=self.w_dim,
            layer_features=self.w_dim,
            conv_kernel=1 if self.kind == STYLEGAN3_R else 3,
            radial_filters=self.kind == STYLEGAN3_R,
        )
        _check_image(self.img_resolution, self.img_channels)
        _check_whole(self, 0, WIDEST, "c_dim")
        _check_whole(self, 1, WIDEST, "z_dim", "w_dim", "embed_features", "layer_features")
        _check_whole(self, 1, DEEPEST, "mapping_layers", "num_layers", "num_critical")
        _check_whole(self, 0, DEEPEST, "num_fp16_res", "margin_size")
        _check_whole(self, 0, MOST_FREQUENCIES, "position_frequencies")
        _check_whole(self, 0, max(self.c_dim - 1, 0), "position_index")
        _check_whole(self, 1, 32, "filter_size", "lrelu_upsampling", "conv_kernel")
        _check_channels(self)
        _check_decay(self, "w_avg_beta", "magnitude_ema_beta")
        _check_number(self, 0.1, LARGEST_RESOLUTION, "first_stopband")
        _check_number(self, 0.1, self.img_resolution / 2, "first_cutoff")  # the last one's is half the pixels
        _check_number(self, 0.1, 10, "last_stopband_rel")
        _check_number(self, 1e-6, 1e6, "mapping_lr_multiplier", "output_scale")
        _check_clamp(self.conv_clamp)
        if self.num_critical >= self.num_layers:
            raise UsageError(
                "critically sampled layers are the last of all layers",
                field="num_critical",
                found=self.num_critical,
                expected=f"< num_layers = {self.num_layers}",
            )

    @property
    def num_ws(self) -> int:
        """How many intermediate latents the synthesis network takes."""
        if self.kind == STYLEGAN2:
            return 2 * (self.img_resolution.bit_length() - 1) - 2
        return self.num_layers + 2


@dataclass(frozen=True)
class DiscriminatorConfig(_Config):
    """Everything that determines a discriminator's architecture.

    Args:
        head: "covariates": 1 + c_dim outputs, realness and one per condition column, c is not looked at;
            "projection": one output, the classic conditional discriminator. The same when c_dim = 0.
        c_dim: Length of the condition.
        img_resolution: Pixels along each side, a power of two.
        img_channels: 1 or 3.
        slices: 1, or 2: a slice and the next one, as further channels.
        channel_base, channel_max, channel_min: Feature maps at resolution r: channel_base / r, within the
            other two. Official networks know no least number.
        conv_clamp: Limit of every layer's output magnitude; None = no limit.
        cmap_dim: Length of the mapped condition (projection only); None = feature maps at 4 pixels.
        mapping_layers, mapping_lr_multiplier, embed_features, layer_features: The condition's mapping
        network.
        mbstd_group_size: Images per minibatch-standard-deviation group; None = the whole batch.
        mbstd_channels: Feature maps that it adds; 0 = none.
        num_fp16_res: On CUDA, the highest resolutions that run in float16 (0 = none). Ignored on the CPU.
        freeze_layers: How many of the first layers keep their weights when training (freeze-D).
        position_index, position_frequencies: Which number of the condition says where a slice lies, and how
            many sines and cosines of it realness is judged by, beside it; 0 = realness does not depend on it.
    """

    head: str = COVARIATES
    c_dim: int = 0
    img_resolution: int = 256
    img_channels: int = 1
    slices: int = 1
    channel_base: int = 16384
    channel_max: int = 512
    channel_min: int = 1
    conv_clamp: float | None = 256.0
    cmap_dim: int = None  # type: ignore[assignment]
    mapping_layers: int = 8
    mapping_lr_multiplier: float = 0.01
    embed_features: int = None  # type: ignore[assignment]
    layer_features: int = None  # type: ignore[assignment]
    mbstd_group_size: int | None = 4
    mbstd_channels: int = 1
    num_fp16_res: int = 4
    freeze_layers: int = 0
    position_index: int = 0
    position_frequencies: int = 0

    def __post_init__(self) -> None:
        if self.head not in DISCRIMINATOR_HEADS:
            raise UsageError(
                "unknown head", field="head", found=self.head, expected=" or ".join(DISCRIMINATOR_HEADS)
            )
        _check_image(self.img_resolution, self.img_channels)
        _check_whole(self, 1, MOST_SLICES, "slices")
        _check_whole(self, 0, WIDEST, "c_dim", "mbstd_channels")
        _check_whole(self, 0, DEEPEST, "num_fp16_res", "freeze_layers")
        _check_whole(self, 1, DEEPEST, "mapping_layers")
        _check_channels(self)
        _check_number(self, 1e-6, 1e6, "mapping_lr_multiplier")
        _check_clamp(self.conv_clamp)
        self._fill_in(cmap_dim=self.channels(4))
        self._fill_in(embed_features=self.cmap_dim, layer_features=self.cmap_dim)
        _check_whole(self, 1, WIDEST, "cmap_dim", "embed_features", "layer_features")
        _check_whole(self, 0, MOST_FREQUENCIES, "position_frequencies")
        _check_whole(self, 0, max(self.c_dim - 1, 0), "position_index")
        if self.position_frequencies and self.head != COVARIATES:
            raise UsageError(
                "a projection head sees the position already",
                field="position_frequencies",
                found=self.position_frequencies,
                expected="0",
            )
        if self.mbstd_group_size is not None:
            _check_whole(self, 1, WIDEST, "mbstd_group_size")

    @property
    def projects(self) -> bool:
        """Whether the condition enters the network."""
        return self.head == PROJECTION and self.c_dim > 0

    @property
    def outputs(self) -> int:
        """Columns of the result."""
        return 1 + self.c_dim if self.head == COVARIATES else 1
