"""Generators and discriminators, built from frozen configurations."""

from __future__ import annotations

from mssg.networks.config import DiscriminatorConfig, GeneratorConfig
from mssg.networks.discriminator import Discriminator
from mssg.networks.generator import Generator

__all__ = [
    "Discriminator",
    "DiscriminatorConfig",
    "Generator",
    "GeneratorConfig",
    "build_discriminator",
    "build_generator",
]


def build_generator(config: GeneratorConfig) -> Generator:
    """A generator with freshly drawn weights (torch's global random state)."""
    return Generator(config)


def build_discriminator(config: DiscriminatorConfig) -> Discriminator:
    """A discriminator with freshly drawn weights (torch's global random state)."""
    return Discriminator(config)
