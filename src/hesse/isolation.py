"""The user's function run so that its side effects stay inside one evaluation.

A model may write into its buffers, its data or its attributes (running statistics, a counter, a
last output), and PyTorch lets it. Whoever differentiates it evaluates it many times, and each
evaluation must see what the first one saw.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, final

import torch
from torch import Tensor

from hesse.data.batch import Batch, require_batch
from hesse.decompositions import Decompositions
from hesse.errors import (
    HesseError,
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    in_a_line,
    require_mapping,
)
from hesse.parameters import Parameters
from hesse.private_modules import PrivateModules
from hesse.process.circumstances import is_passing
from hesse.process.generators import RandomStream
from hesse.process.switches import differentiable_twice
from hesse.process.undo import undone


@final
class IsolatedFunction:
    """The user's function, evaluated so that nothing it does reaches out of the evaluation.

    Args:
        modules, fixed, call: as below.
        parameters: those of the cost. What an evaluation is given in their place has their shapes.

    Attributes:
        modules: the private modules that it runs, if any.
        fixed: the tensors held fixed.
        call: the user's function.
        mutated: names of the tensors held fixed that it writes into, which are cloned for it each
            time.
        mutates_data: whether it writes into its data, likewise.
        mutates_attributes: whether it changes plain attributes of its modules, which are put back.
        stream: the random numbers that it draws, if any.
    """

    def __init__(
        self,
        modules: PrivateModules,
        fixed: Parameters,
        call: Callable[..., Any],
        parameters: Parameters,
    ) -> None:
        self.modules, self.fixed, self.call = modules, fixed, call
        self._forms = {
            name: (tuple(value.shape), value.dtype, value.device)
            for name, value in parameters.items()
        }
        # A parameter of a module that is not given stays as it is there.
        self._needed = parameters.keys() - modules.tensors.keys()
        self.mutated: set[str] = set()
        self.mutates_data = self.mutates_attributes = False
        self.stream = RandomStream()

    @contextlib.contextmanager
    def evaluating(self, tensors: Parameters) -> Iterator[Parameters]:
        """Run the user's function with these in the place of parameters and tensors held fixed;
        gives those for a function.

        Raises:
            HesseError: parameters that are missing, of another shape, or, where the function fails
                on them, of another dtype or device.
        """
        require_mapping(tensors, "parameters", Tensor, "Tensor")
        self._require_shapes(tensors)
        # Only what was seen to be written into is cloned: clones cost memory at every evaluation.
        held = {
            name: value.clone() if name in self.mutated else value
            for name, value in {**self.fixed, **tensors}.items()
        }
        before = self.modules.attributes() if self.mutates_attributes else []
        with (
            undone(lambda: self.modules.put_back(before)),
            differentiable_twice(self.modules.recurrent),
            self.modules.holding(held),
            self.stream.drawing() if self.stream.draws else contextlib.nullcontext(),
        ):
            try:
                yield tensors
            except Exception as error:
                # Only now: hesse itself runs float32 functions in float64, and on shapes alone.
                if isinstance(error, HesseError) or is_passing(error):
                    raise
                self._require_numbers(tensors, error)
                raise

    def _require_shapes(self, tensors: Parameters) -> None:
        if missing := self._needed - tensors.keys():
            raise HesseKeyError(
                f"parameters: the function takes {', '.join(map(repr, self._forms))}, and"
                f" {', '.join(map(repr, sorted(missing)))} is not among those given"
            )
        for name, tensor in tensors.items():
            shape = self._forms[name][0] if name in self._forms else tensor.shape
            if tensor.shape != shape:
                raise HesseValueError(
                    f"parameters: {name!r} has shape {tuple(tensor.shape)}; this cost expects"
                    f" {shape}"
                )

    def _require_numbers(self, tensors: Parameters, failed: Exception) -> None:
        for name, (_, dtype, device) in self._forms.items():
            if name not in tensors:
                continue
            if tensors[name].dtype != dtype:
                raise HesseTypeError(
                    f"parameters: {name!r} is {tensors[name].dtype}; this cost computes in {dtype},"
                    f" and its function failed: {in_a_line(failed)}"
                ) from failed
            if tensors[name].device != device:
                raise HesseValueError(
                    f"parameters: {name!r} is on {tensors[name].device}; this cost computes on"
                    f" {device}, and its function failed: {in_a_line(failed)}"
                ) from failed

    def batch_for_call(self, batch: Batch) -> Batch:
        """The batch as the user's function may have it."""
        require_batch(batch)
        return batch.clone() if self.mutates_data else batch

    def observe(
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
        # Here the decompositions are always tried; later only where one of them was used.
        attributes = self.modules.attributes()
        try:
            with Decompositions() as mode, self.stream.watched():
                result = evaluate(given, held)
            self.modules.decomposed |= mode.used
            self.mutated |= {
                name for name, value in fixed.items() if not _same(value, self.fixed[name])
            }
        finally:
            self.fixed = fixed
            self.mutates_attributes |= self.modules.put_back(attributes)
        for name, value in parameters.items():
            if not _same(value, given[name]):
                raise HesseValueError(
                    f"params: the model, loss or penalty writes into {name!r}, a parameter of the"
                    " cost; a cost holds its parameters still: write into a copy, or leave it out"
                    " with params="
                )
        if batch is not None and held is not None and not self.mutates_data:
            pairs = zip(batch.tensors, held.tensors, strict=True)
            self.mutates_data = any(not _same(before, after) for before, after in pairs)
        return result


def _same(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.equal(before, after)
