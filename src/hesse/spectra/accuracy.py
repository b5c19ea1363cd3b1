"""When an estimate is good enough: by its standard error, after ten probes at the least."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, final

import torch
from torch import Tensor

from hesse.errors import HesseValueError, require_integer, require_positive, require_progress
from hesse.process.memory import require_memory
from hesse.words.shapes import Float

# A standard error from fewer probes says little of itself.
LEAST_PROBES = 10
# Without a word of the user's: two digits.
_RELATIVE = 0.01
# Random numbers that are drawn at once.
_DRAWN = 2**18


@final
@dataclass(frozen=True)
class Accuracy:
    """What is asked of an estimate, checked.

    Attributes:
        error: the standard error to stop at, if it is absolute.
        relative_error: the same, as a part of the value.
        products: the most products to take.
        seed: of the random vectors.
        memory: bytes to keep vectors in; a share of what is free where it is ``None``.
        progress: whether a line is shown; ``None`` where the work takes long.
    """

    error: float | None
    relative_error: float
    products: int
    seed: int
    memory: int | None
    progress: bool | None

    @staticmethod
    def of(
        error: Any, relative_error: Any, products: Any, seed: Any, memory: Any, progress: Any
    ) -> "Accuracy":
        """The arguments of every estimate, checked.

        Raises:
            HesseTypeError, HesseValueError: says which argument is none, and what it should be.
        """
        if error is not None and relative_error is not None:
            raise HesseValueError(
                "error, relative_error: give one of them, the absolute or the relative standard"
                " error to stop at"
            )
        require_progress(progress)
        return Accuracy(
            None if error is None else require_positive(error, "error"),
            _RELATIVE
            if relative_error is None
            else require_positive(relative_error, "relative_error"),
            require_integer(products, "products", LEAST_PROBES),
            require_seed(seed),
            None if memory is None else require_memory(memory),
            progress,
        )

    def target(self, value: float) -> float:
        """The standard error that is asked for, of an estimate of this value."""
        return self.relative_error * abs(value) if self.error is None else self.error

    def generator(self) -> torch.Generator:
        """Of the vectors: on the CPU, so that they are the same on every device."""
        return torch.Generator("cpu").manual_seed(self.seed)


def require_seed(seed: Any) -> int:
    """A seed of PyTorch's generators."""
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**63:
        raise HesseValueError(f"seed: expected a whole number >= 0 of 63 bits, got {seed!r}")
    return seed


def random_vectors(
    count: int, like: Tensor, generator: torch.Generator
) -> Float[Tensor, "count P"]:
    """Vectors of normal numbers, as rows."""
    rows = like.new_empty(count, like.shape[-1])
    # One by one: how many are drawn at once then does not change them. In pieces, for they are
    # drawn in float64, which may be twice as much.
    for row in rows:
        for piece in row.split(_DRAWN):
            drawn = torch.randn(len(piece), generator=generator, dtype=torch.float64, device="cpu")
            piece.copy_(drawn)
    return rows


@cache
def student(count: int) -> float:
    """By how much a standard error from so few samples is too small: Student's quantile beside the
    normal one, at 95 %.

    Examples:
        >>> round(student(10), 3), round(student(1000), 3)
        (1.154, 1.001)
    """
    from scipy.special import ndtri, stdtrit

    return float(stdtrit(count - 1, 0.975) / ndtri(0.975))


def mean_and_error(samples: Float[Tensor, " n *K"]) -> tuple[Tensor, Tensor]:
    """The means of independent samples, and their standard errors."""
    count = len(samples)
    return samples.mean(0), samples.std(0) * (student(count) / math.sqrt(count))
