"""The user's function, evaluated so that nothing it does reaches out of the evaluation."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor

from hesse.data.batch import Batch
from hesse.errors import HesseValueError
from hesse.process.switches import differentiable_twice
from hesse.snapshot import Modules, Parameters
from hesse.written_out import WrittenOut


@final
class Subject:
    """The user's function, evaluated so that nothing it does reaches out of the evaluation.

    Attributes:
        modules: the private modules that it runs, if any.
        fixed: the tensors held fixed.
        call: the user's function.
        writes: the tensors held fixed that it writes into, which are cloned for it each time.
        writes_data: whether it writes into its data, likewise.
        counts: whether it changes plain attributes of its modules, which are put back.
    """

    def __init__(self, modules: Modules, fixed: Parameters, call: Callable[..., Any]) -> None:
        self.modules, self.fixed, self.call = modules, fixed, call
        self.writes: set[str] = set()
        self.writes_data = self.counts = False

    @contextlib.contextmanager
    def evaluating(self, tensors: Parameters) -> Iterator[Parameters]:
        """Run the user's function with these in the place of parameters and tensors held fixed;
        gives those for a function."""
        held = {
            name: value.clone() if name in self.writes else value
            for name, value in {**self.fixed, **tensors}.items()
        }
        before = self.modules.attributes() if self.counts else []
        try:
            with differentiable_twice(self.modules.recurrent), self.modules.holding(held):
                yield tensors
        finally:
            self.modules.put_back(before)

    def taken(self, batch: Batch) -> Batch:
        """The batch as the user's function may have it."""
        return batch.clone() if self.writes_data else batch

    def watch(
        self,
        evaluate: Callable[[Parameters, Batch | None], Any],
        parameters: Parameters,
        batch: Batch | None,
    ) -> Any:
        """Evaluate on clones of everything, and learn what is written into.

        Raises:
            HesseValueError: the parameters are.
        """
        given = {name: value.clone() for name, value in parameters.items()}
        fixed, self.fixed = self.fixed, {name: value.clone() for name, value in self.fixed.items()}
        held = None if batch is None else batch.clone()
        attributes = self.modules.attributes()
        try:
            with WrittenOut() as mode:
                result = evaluate(given, held)
            self.modules.written_out |= mode.ran
            self.writes |= {
                name for name, value in fixed.items() if not _same(value, self.fixed[name])
            }
        finally:
            self.fixed = fixed
            self.counts |= self.modules.put_back(attributes)
        for name, value in parameters.items():
            if not _same(value, given[name]):
                raise HesseValueError(
                    f"params: the model, loss or penalty writes into {name!r}, a parameter of the"
                    " cost; a cost holds its parameters still: write into a copy, or leave it out"
                    " with params="
                )
        if batch is not None and held is not None and not self.writes_data:
            pairs = zip(batch.tensors, held.tensors, strict=True)
            self.writes_data = any(not _same(before, after) for before, after in pairs)
        return result


def _same(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.equal(before, after)
