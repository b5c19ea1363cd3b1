"""The layout: the order of the parameters and where each lies in the flat vector of all of them,
which is also the order of a Hessian's rows."""

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NoReturn

import torch
from torch import Tensor

from hesse.display import Display, Displayed, Table, counted
from hesse.errors import (
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    nearest,
    require_mapping,
    require_strided,
)
from hesse.words.shapes import Shaped


@dataclass(frozen=True, repr=False)
class Layout(Displayed):
    """Where each parameter lies in the flat vector of length P, row-major, in the order given.

    Attributes:
        names: parameter names, in order.
        shapes: their shapes, in the same order.

    Examples:
        >>> layout = Layout(("w", "b"), ((2, 3), (2,)))
        >>> layout.size, layout.slice("b")
        (8, slice(6, 8, None))
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        names, shapes = self.names, self.shapes
        if not _is_tuple_of(names, str) or len(set(names)) < len(names):
            raise HesseTypeError(f"names: expected a tuple of different texts, got {names!r}")
        if (
            not _is_tuple_of(shapes, tuple)
            or not all(_is_tuple_of(shape, int) and min(shape, default=0) >= 0 for shape in shapes)
            or len(shapes) != len(names)
        ):
            raise HesseTypeError(
                f"shapes: expected a tuple of {len(names)} shapes, each a tuple of whole numbers,"
                f" got {shapes!r}"
            )

    @staticmethod
    def of(tensors: Mapping[str, Tensor], argument: str = "tensors") -> "Layout":
        """The layout of a dictionary of tensors, in its order; ``argument`` begins messages."""
        require_mapping(tensors, argument, Tensor, "Tensor")
        return Layout(tuple(tensors), tuple(tuple(t.shape) for t in tensors.values()))

    def _display(self) -> Display:
        return Display(
            "Layout",
            f"{counted(len(self.names), 'part')}, {counted(self.size, 'entry')}",
            table=self.table,
            next=("layout.slice(name)", "layout.flatten(tensors)", "layout.unflatten(vector)"),
        )

    @property
    def table(self) -> Table:
        """The parts, to be shown."""
        rows = zip(self.names, self.shapes, self.sizes.values(), strict=True)
        return Table(
            ("parameter", "shape", "entries"),
            tuple((name, str(shape), f"{size:,}") for name, shape, size in rows),
            (0, 1),
        )

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Number of entries of each parameter."""
        return {name: math.prod(shape) for name, shape in zip(self.names, self.shapes, strict=True)}

    @cached_property
    def offsets(self) -> dict[str, int]:
        """Where each parameter begins in the flat vector."""
        offsets, begin = {}, 0
        for name in self.names:
            offsets[name] = begin
            begin += self.sizes[name]
        return offsets

    @cached_property
    def size(self) -> int:
        """P, the length of the flat vector."""
        return sum(self.sizes.values())

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of one parameter.

        Raises:
            HesseKeyError: no such parameter; the text offers the nearest names.
        """
        return self.shapes[self.index(name)]

    def index(self, name: str, argument: str = "") -> int:
        """The place of one parameter in the order; the ``argument`` that it is of begins
        messages."""
        if not isinstance(name, str):
            raise HesseTypeError(
                f"{argument or 'name'}: expected the name of a parameter, got {type(name).__name__}"
            )
        if name not in self.offsets:
            raise HesseKeyError(
                f"{argument and argument + ': '}no parameter is named {name!r}; the nearest of the"
                f" {len(self.names)} in this layout: {nearest(name, list(self.names))}"
            )
        return self.names.index(name)

    def matching(self, names: str | Sequence[str], argument: str = "") -> "Layout":
        """The layout of the parameters of one name or pattern (``"2.*"``), or of several, in the
        order of this one; the ``argument`` that they are of begins messages.

        Raises:
            HesseTypeError: neither a text nor a sequence of them.
            HesseValueError: an empty sequence.
            HesseKeyError: no parameter has a name, or matches a pattern.

        Examples:
            >>> Layout(("0.weight", "2.weight", "2.bias"), ((3,), (2,), ())).matching("2.*").names
            ('2.weight', '2.bias')
        """
        patterns = (names,) if isinstance(names, str) else names
        if not isinstance(patterns, list | tuple):
            raise HesseTypeError(
                f"{argument or 'name'}: expected the name of a parameter, a pattern, or a list of"
                f" them, got {type(names).__name__}"
            )
        if not patterns:
            raise HesseValueError(
                f"{argument or 'name'}: expected the names of some parameters, got none"
            )
        found: set[str] = set()
        for pattern in patterns:
            matching = (
                {name for name in self.names if fnmatch.fnmatchcase(name, pattern)}
                if isinstance(pattern, str)
                else set()
            )
            # Looked up by its own name where it matches none: a bracket is part of some names.
            found |= matching or {self.names[self.index(pattern, argument)]}
        places = [place for place, name in enumerate(self.names) if name in found]
        return Layout(
            tuple(self.names[place] for place in places),
            tuple(self.shapes[place] for place in places),
        )

    @cached_property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """The names of the parameters of each layer: of each module that holds some; one that
        belongs to no module is a layer of its own.

        Examples:
            >>> Layout(("0.weight", "0.bias", "scale"), ((3,), (), ())).layers
            {'0': ('0.weight', '0.bias'), 'scale': ('scale',)}
        """
        layers: dict[str, tuple[str, ...]] = {}
        for name in self.names:
            layer = name.rpartition(".")[0] or name
            layers[layer] = (*layers.get(layer, ()), name)
        return layers

    def slice(self, name: str) -> slice:
        """The entries of one parameter in the flat vector."""
        self.index(name)  # refuses an unknown name
        return slice(self.offsets[name], self.offsets[name] + self.sizes[name])

    def flatten(
        self, tensors: Mapping[str, Tensor], argument: str = "tensors"
    ) -> Shaped[Tensor, " P"]:
        """One flat vector from a dictionary with exactly these names and shapes; ``argument``
        begins messages."""
        require_mapping(tensors, argument, Tensor, "Tensor")
        missing = [name for name in self.names if name not in tensors]
        extra = [name for name in tensors if name not in self.offsets]
        if missing or extra:
            raise HesseKeyError(
                f"{argument}: the dictionary does not have this layout's names: missing"
                f" {missing or 'none'}, unknown {extra or 'none'}"
            )
        for name, shape in zip(self.names, self.shapes, strict=True):
            if tuple(tensors[name].shape) != shape:
                raise HesseValueError(
                    f"{argument}: {name!r} has shape {tuple(tensors[name].shape)}; this layout"
                    f" expects {shape}"
                )
        given = [tensors[name] for name in self.names]
        if len({tensor.device for tensor in given}) > 1:
            devices = ", ".join(sorted({str(tensor.device) for tensor in given}))
            raise HesseValueError(f"{argument}: they lie on different devices, {devices}")
        parts = [tensor.reshape(-1) for tensor in given]
        return torch.cat(parts) if parts else torch.zeros(0, device="cpu")

    def unflatten(self, vector: Shaped[Tensor, "..."]) -> dict[str, Tensor]:
        """The dictionary of views of a flat vector, or of the last axis of a stack of them."""
        if not isinstance(vector, Tensor) or vector.ndim == 0:
            raise HesseTypeError(
                f"vector: expected a flat tensor of P = {self.size} entries, got"
                f" {type(vector).__name__}"
            )
        require_strided(vector, "vector")
        if vector.shape[-1] != self.size:
            raise HesseValueError(
                f"a flat vector for this layout has {self.size} entries, got {vector.shape[-1]}"
                f" (shape {tuple(vector.shape)})"
            )
        return {
            name: vector[..., self.slice(name)].reshape((*vector.shape[:-1], *shape))
            for name, shape in zip(self.names, self.shapes, strict=True)
        }


class TensorsByName(dict[str, Tensor]):
    """A tensor for each parameter; a name that is not there is refused with the nearest."""

    def __missing__(self, name: object) -> NoReturn:
        raise HesseKeyError(
            f"no parameter is named {name!r}; the nearest of the {len(self)} here:"
            f" {nearest(str(name), list(self))}"
        )


def _is_tuple_of(given: Any, kind: type) -> bool:
    return isinstance(given, tuple) and all(isinstance(part, kind) for part in given)
