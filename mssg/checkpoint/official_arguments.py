"""Constructor arguments of NVlabs' and weslai/msstylegans' networks in their words and in ours, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mssg.errors import SnapshotError
from mssg.networks.config import DiscriminatorConfig, GeneratorConfig


@dataclass(frozen=True)
class Vocabulary:
    """One group of official constructor arguments.

    Args:
        fields: Official name -> field of our configuration.
        fixed: Official name -> the values we can represent (the architecture has no other).
        ignored: Official names that do not change the result.
        groups: Official name of a nested dictionary -> its vocabulary.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
    groups: Mapping[str, Vocabulary] = field(default_factory=dict)

    def translate(self, config: Mapping[str, Any], place: str = "") -> dict[str, Any]:
        """Our configuration's fields from official arguments.

        Raises:
            SnapshotError: An argument is unknown, or has a value that our networks cannot represent.
        """
        result: dict[str, Any] = {}
        for name, value in config.items():
            where = f"{place}{name}"
            if name in self.groups:
                result |= self.groups[name].translate(value or {}, f"{where}.")
            elif name in self.fields:
                result[self.fields[name]] = value
            elif name in self.fixed:
                value = tuple(value) if isinstance(value, list | tuple) else value
                if value not in self.fixed[name]:
                    expected = " or ".join(str(v) for v in self.fixed[name])
                    raise SnapshotError(
                        "unsupported architecture", field=where, found=value, expected=expected
                    )
            elif name not in self.ignored:
                raise SnapshotError("unknown constructor argument of an official network", field=where)
        return result


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_MAPPING2 = Vocabulary(
    fields={"num_layers": "mapping_layers", "lr_multiplier": "mapping_lr_multiplier"}
    | _same("embed_features", "layer_features", "w_avg_beta"),
    fixed={"activation": ("lrelu",)},
)
_MAPPING3 = Vocabulary(
    fields={"num_layers": "mapping_layers", "lr_multiplier": "mapping_lr_multiplier"} | _same("w_avg_beta")
)
COMMON = _same("z_dim", "c_dim", "w_dim", "img_resolution", "img_channels")
_SYNTHESIS2 = Vocabulary(
    fields=_same("channel_base", "channel_max", "num_fp16_res", "conv_clamp"),
    fixed={
        "architecture": ("skip",),
        "resample_filter": ((1, 3, 3, 1),),
        "activation": ("lrelu",),
        "use_noise": (True,),
        "kernel_size": (3,),
    },
    ignored=frozenset({"fused_modconv_default", "fp16_channels_last", "use_fp16"}),
)
_GENERATOR2 = Vocabulary(
    fields={**COMMON, **_SYNTHESIS2.fields},
    fixed=_SYNTHESIS2.fixed,
    ignored=_SYNTHESIS2.ignored | {"class_name"},
    groups={"mapping_kwargs": _MAPPING2, "synthesis_kwargs": _SYNTHESIS2},
)
_GENERATOR3 = Vocabulary(
    fields=COMMON
    | _same("channel_base", "channel_max", "num_fp16_res", "conv_clamp", "num_layers", "num_critical")
    | _same(
        "first_cutoff", "first_stopband", "last_stopband_rel", "margin_size", "output_scale", "filter_size"
    )
    | _same("lrelu_upsampling", "magnitude_ema_beta", "conv_kernel")
    | {"use_radial_filters": "radial_filters"},
    ignored=frozenset({"class_name"}),
    groups={"mapping_kwargs": _MAPPING3},
)
_DISCRIMINATOR = Vocabulary(
    fields=_same("c_dim", "img_resolution", "img_channels", "channel_base", "channel_max", "num_fp16_res")
    | _same("conv_clamp", "cmap_dim"),
    fixed={"architecture": ("resnet",)},
    ignored=frozenset({"class_name"}),
    groups={
        "block_kwargs": Vocabulary(
            fields=_same("freeze_layers"),
            fixed={"activation": ("lrelu",), "resample_filter": ((1, 3, 3, 1),)},
            ignored=frozenset({"fp16_channels_last"}),
        ),
        "epilogue_kwargs": Vocabulary(
            fields={"mbstd_group_size": "mbstd_group_size", "mbstd_num_channels": "mbstd_channels"},
            fixed={"activation": ("lrelu",)},
        ),
        "mapping_kwargs": Vocabulary(fields=_MAPPING2.fields, fixed=_MAPPING2.fixed),
    },
)

# Defaults of the official constructors, where they are not those of our configurations.
DEFAULTS = {"channel_base": 32768, "channel_max": 512}
OWN = {"position_frequencies": 0, "slices": 1, "channel_min": 1}
"""Fields by which our networks depart from official ones, and with which value they do not."""
KINDS: dict[str, tuple[Vocabulary, dict[str, Any]]] = {
    "generator_stylegan2": (_GENERATOR2, {"kind": "stylegan2"}),
    "generator_stylegan3": (_GENERATOR3, {"kind": "stylegan3-t", "conv_kernel": 3, "radial_filters": False}),
    "discriminator": (_DISCRIMINATOR, {"head": "projection"}),
    "discriminator_multisource": (_DISCRIMINATOR, {"head": "covariates"}),
}
# Positional constructor arguments, in their official order.
POSITIONS = {
    "Generator": (
        "z_dim",
        "c_dim",
        "w_dim",
        "img_resolution",
        "img_channels",
        "mapping_kwargs",
        "synthesis_kwargs",
    ),
    "Discriminator": (
        "c_dim",
        "img_resolution",
        "img_channels",
        "architecture",
        "channel_base",
        "channel_max",
        "num_fp16_res",
        "conv_clamp",
        "cmap_dim",
        "block_kwargs",
        "mapping_kwargs",
        "epilogue_kwargs",
    ),
}


def official_arguments(config: GeneratorConfig | DiscriminatorConfig) -> tuple[str, dict[str, Any]]:
    """Kind and constructor arguments, in the official vocabulary, of one of our networks.

    Returns:
        What `from_official` takes: the kind, and every argument stated.

    Raises:
        SnapshotError: The network has a part that official ones have not.
    """
    for name, official in OWN.items():
        if (found := getattr(config, name, official)) != official:
            hint = "Only a snapshot holds it"
            told = {"found": found, "expected": official, "hint": hint}
            raise SnapshotError("official networks have no such part", field=name, **told)
    if isinstance(config, GeneratorConfig):
        kind = "generator_stylegan2" if config.kind == "stylegan2" else "generator_stylegan3"
    else:
        kind = "discriminator" if config.projects or not config.c_dim else "discriminator_multisource"
    values = config.to_json()

    def translate(vocabulary: Vocabulary) -> dict[str, Any]:
        stated = {official: values[ours] for official, ours in vocabulary.fields.items() if ours in values}
        groups = {n: translate(v) for n, v in vocabulary.groups.items() if n != "synthesis_kwargs"}
        return stated | {name: group for name, group in groups.items() if group}

    return kind, translate(KINDS[kind][0])
