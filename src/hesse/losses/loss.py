"""A loss as a sum over samples: what a batch adds to the cost, and what it is divided by.

A mean over batches of unequal weight is not the mean of their means. So every loss is held as a
*total* (its sum over the batch) and a *weight* (what the mean divides by), and the cost divides the
sum of totals by the sum of weights over the whole data set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from hesse.data.batch import Batch

Total = Callable[[Any, Any], Tensor]
Weight = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Loss:
    """A loss that is a weighed mean, or a sum, over samples.

    Attributes:
        name: what to call it in a plan.
        total: (prediction, target) -> the sum over the batch.
        weight: (prediction, target) -> what the batch adds to the divisor of the mean; ``None`` for
            a sum.
        separable: False where the loss of a batch is not the sum of its samples' losses.
        elementwise: True where predictions and targets are compared entry by entry.
        by_samples: True where ``total`` gives the mean over the samples of its batch, and the
            divisor is their number.
        ignored: the label that is left out, where targets are the numbers of classes; ``None``
            where they are not.
        given: the loss as the user gave it, where its sum and its divisor come from a record: what
            they are held against.
    """

    name: str
    total: Total
    weight: Weight | None
    separable: bool = True
    elementwise: bool = False
    by_samples: bool = False
    ignored: int | None = None
    given: Total | None = None

    def of_batch(self, prediction: Any, batch: Batch) -> Tensor:
        """The sum over a batch."""
        total = self.total(prediction, batch.targets)
        return total * batch.size if self.by_samples else total

    def divisor(self, prediction: Any, batch: Batch) -> float:
        """What a batch adds to the divisor of the mean; 0 for a sum."""
        if self.by_samples:
            return float(batch.size)
        return self.weight(prediction, batch.targets) if self.weight else 0.0

    @property
    def is_mean(self) -> bool:
        """Whether it is divided by anything."""
        return self.by_samples or self.weight is not None


def name_of(function: Callable[..., Any]) -> str:
    """What to call a function of the user's."""
    return getattr(function, "__name__", type(function).__name__)
