"""The networks of a run: their sizes from its configuration, their first weights from a snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from mssg.checkpoint.snapshot import load_snapshot
from mssg.errors import RunError
from mssg.networks.config import STYLEGAN2, DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import Discriminator
from mssg.networks.generator import Generator
from mssg.study.model import Study
from mssg.study.train_config import TrainConfig

SECOND_SLICE = 0.5
"""Standard deviation of a discriminator's first weights for the second slice of a pair. From zero they grow
slowly: to a 25th of the first slice's after 10,000 images."""


Network = Generator | Discriminator

FIRST_TRANSITION = 2**1.1
"""StyleGAN3's first stopband over its first cutoff (Karras et al. 2021, configuration T)."""


def configurations(study: Study, config: TrainConfig) -> tuple[GeneratorConfig, DiscriminatorConfig]:
    """The networks' configurations of a run."""
    numerics = {"num_fp16_res": config.num_fp16_res, "conv_clamp": config.conv_clamp or None}
    depth = {"mapping_layers": config.mapping_layers} if config.mapping_layers else {}
    image = {"img_resolution": study.resolution, "img_channels": study.channels, "c_dim": study.layout.width}
    index = study.layout[study.position].start if study.position is not None else 0
    generator = GeneratorConfig(
        kind=config.cfg,
        z_dim=config.z_dim,
        w_dim=config.w_dim,
        channel_base=config.channel_base,
        channel_max=config.channel_max,
        channel_min=config.channel_min,
        image_noise=config.image_noise,
        num_layers=config.num_layers,
        first_cutoff=config.first_cutoff,
        first_stopband=config.first_cutoff * FIRST_TRANSITION,
        mapping_lr_multiplier=config.mapping_lr_multiplier,
        position_index=index,
        position_frequencies=config.position_frequencies,
        **depth,
        **image,
        **numerics,
    )
    discriminator = DiscriminatorConfig(
        head=config.d_head,
        channel_base=config.d_channel_base or config.channel_base,
        channel_max=config.d_channel_max or config.channel_max,
        channel_min=config.channel_min,
        mbstd_group_size=config.mbstd_group,
        freeze_layers=config.freeze_d,
        slices=2 if config.slice_pairs else 1,
        position_index=index,
        position_frequencies=config.d_position_frequencies,
        **image,
        **numerics,
    )
    return generator, discriminator


def transfer(snapshot: str, networks: Mapping[str, Network], log: Callable[[str], None]) -> None:
    """Start from a snapshot's weights: every tensor of the same name and shape; the rest keeps its values.

    A network with fewer feature maps may be the start of a wider one, but for StyleGAN3's generator: its maps
    become the first ones, and nothing that it computes changes. A discriminator of single slices may be the
    start of one of pairs.

    Args:
        snapshot: A SNAPSHOT argument.
        networks: By the name they have in a snapshot.
        log: Told how many tensors were taken over.

    Raises:
        RunError: No tensor of one network fits.
    """
    held = load_snapshot(snapshot)
    for name, network in networks.items():
        loaded, own = held.load(name), network.state_dict()
        given = loaded.state_dict()
        if isinstance(network, Discriminator) and isinstance(loaded, Discriminator):
            if network.config.slices > loaded.config.slices:
                first = f"b{network.img_resolution}.fromrgb.weight"
                given[first] = _of_pairs(given[first])
        wider = _widened(network, loaded, given)
        fitting = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
        if not fitting:
            hint = "Use the same --cfg and sizes"
            raise RunError("no tensor fits this study's networks", file=snapshot, field=name, hint=hint)
        network.load_state_dict(own | fitting | wider)
        widened = f", {len(wider)} of them widened" if wider else ""
        log(f"--init-from: {len(fitting | wider)} of {len(own)} tensors of {name} taken over{widened}")


def _widened(network: Network, loaded: Network, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A narrower network's weights, `given`, with as many feature maps as a network has.

    New maps keep the weights they were drawn with, and no old map looks at them at first. The mapping network
    and the discriminator's last block, whose inputs are more than feature maps, are left out.

    Source: Chen et al. 2016, "Net2Net", for the aim that nothing changes at first.
    """
    wider: dict[str, Tensor] = {}
    if isinstance(network, Generator) and network.config.kind != STYLEGAN2:
        return wider
    if network.config.img_channels != loaded.config.img_channels:  # a picture's channels are no feature maps
        return wider
    left_out = ("mapping.", "b4.") if isinstance(network, Discriminator) else ("mapping.",)
    for path, module in network.named_modules():
        for name, own in module.named_parameters(path, recurse=False):
            old = given.get(name)
            if old is None or name.startswith(left_out) or not _is_narrower(old, own):
                continue
            new = own.detach().clone()
            if old.ndim == 1 or old.shape[1] == own.shape[1]:
                new[: len(old)] = old
            else:
                new[: len(old)] = 0
                # equalised learning rates divide by the root of the fan-in
                gain = math.sqrt(own.shape[1] / old.shape[1]) if hasattr(module, "weight_gain") else 1.0
                new[: len(old), : old.shape[1]] = old * gain
            wider[name] = new
    return wider


def _is_narrower(old: Tensor, own: Tensor) -> bool:
    """Whether only the numbers of feature maps, [made, looked at, ...], are less in one of two tensors."""
    alike = old.ndim == own.ndim and old.shape != own.shape and old.shape[2:] == own.shape[2:]
    return alike and all(a <= b for a, b in zip(old.shape, own.shape))


def _of_pairs(given: Tensor) -> Tensor:
    """A first layer's weights for pairs of slices: small random ones for the second slice, and larger ones
    for the first, since the equalised learning rate divides by the root of the fan-in."""
    return torch.cat([given * math.sqrt(2), torch.randn_like(given) * SECOND_SLICE], 1)
