"""The random numbers of certificates, from generators of their own, which are on the CPU whatever
the default device is."""

import itertools

import torch
from torch import Tensor

from hesse.distributed.group import of_first

_SEEDS = itertools.count()


def generator(device: torch.device | None = None) -> torch.Generator:
    """A generator of the certificates' own: the user's random state is not touched, and no two
    certificates draw alike."""
    return torch.Generator(device or "cpu").manual_seed(next(_SEEDS))


def shared_generator() -> torch.Generator:
    """The same, alike on every rank of a group: of what all of them compute together."""
    return torch.Generator("cpu").manual_seed(of_first("a certificate", lambda: next(_SEEDS)))


def drawn(like: Tensor, random: torch.Generator) -> Tensor:
    """Normal numbers."""
    return torch.randn(like.shape, generator=random, dtype=torch.float64, device=random.device).to(
        like
    )
