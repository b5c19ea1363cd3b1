"""Arrays and functions for the names of a program: are they all there, and do their sizes fit?"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import numpy
import torch

from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.functions import nth_derivative
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.calculus.sizes import is_derived, letters, number
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest
from hesse.operations.registry import FUNCTIONS

Array = Any  # numpy.ndarray or torch.Tensor
Derivatives = tuple[Callable[[Any], Any], ...]
# So many names are listed, of more the nearest.
_FEW = 6


@dataclass(frozen=True)
class BoundArrays:
    """Arrays of one kind and one type.

    Attributes:
        backend: what they belong to.
        values: by name.
        like: one of them; new arrays are of its type and on its device.
    """

    backend: Literal["numpy", "torch"]
    values: Mapping[str, Array]
    like: Array

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.like.device if isinstance(self.like, torch.Tensor) else torch.device("cpu")

    def of_tensors(self, function: Callable[..., torch.Tensor]) -> Callable[..., Array]:
        """A function of tensors as one of arrays of this kind."""
        if self.backend == "torch":
            return function
        dtype = self.like.dtype
        return lambda *arrays: (
            function(*map(torch.as_tensor, arrays)).numpy(force=True).astype(dtype, copy=False)
        )

    def constant(self, value: Any) -> Array:
        """A constant of the program as an array of this kind."""
        if self.backend == "numpy":
            return numpy.asarray(
                value.numpy(force=True) if isinstance(value, torch.Tensor) else value,
                self.like.dtype,
            )
        return torch.as_tensor(value, dtype=self.like.dtype, device=self.like.device)


def arrays_of(given: Mapping[str, Any]) -> BoundArrays:
    """What was given as arrays of one kind: tensors if any of them is one, and the widest floating
    type among them.

    Raises:
        HesseTypeError: something is not an array of real numbers.
    """
    if any(isinstance(value, torch.Tensor) for value in given.values()):
        return _tensors(given)
    arrays = {name: numpy.asarray(value) for name, value in given.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf":
            raise HesseTypeError(
                f"{name}: expected an array of real numbers, got {type(given[name]).__name__} of"
                f" {array.dtype}"
            )
    # Integers and booleans are computed with as floating numbers.
    types = {array.dtype for array in arrays.values()}
    dtype = numpy.result_type(*types) if types else numpy.dtype(float)
    dtype = dtype if dtype.kind == "f" else numpy.dtype(float)
    return BoundArrays(
        "numpy",
        {name: array.astype(dtype, copy=False) for name, array in arrays.items()},
        numpy.ones((), dtype),
    )


def _tensors(given: Mapping[str, Any]) -> BoundArrays:
    first, *others = (value for value in given.values() if isinstance(value, torch.Tensor))
    dtype, device = first.dtype, first.device
    alike = all(other.dtype is dtype and other.device == device for other in others)
    # The usual case converts nothing.
    if dtype.is_floating_point and alike and len(others) == len(given) - 1:
        return BoundArrays("torch", given, first)
    tensors = {name: torch.as_tensor(value) for name, value in given.items()}
    for name, value in tensors.items():
        if value.is_complex():
            raise HesseTypeError(f"{name}: expected real numbers, got {value.dtype}")
        dtype = torch.promote_types(dtype, value.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    # A number may lie on the CPU beside tensors of a GPU.
    device = next((value.device for value in (first, *others) if value.ndim), device)
    tensors = {name: value.to(device, dtype) for name, value in tensors.items()}
    return BoundArrays("torch", tensors, next(iter(tensors.values())))


def check_names(given: Mapping[str, Any], program: Program) -> None:
    """Refuse names that the program does not have, and values for its constants and quantities.

    Raises:
        HesseKeyError: an unknown name.
    """
    free = [name for name, leaf in program.leaves.items() if leaf.is_given]
    for name in given:
        if name in program.by_name:
            raise HesseKeyError(f"{name!r} is computed from {', '.join(free)}: give those")
        if name not in program.leaves:
            few = ", ".join(map(repr, free)) if len(free) <= _FEW else nearest(name, free)
            raise HesseKeyError(f"no array is called {name!r}; expected {few}")


def holds_samples(given: Mapping[str, Any], program: Program) -> bool:
    """Whether arrays of one sample's program hold many samples: each of the sample's own has one
    more axis, in front.

    Raises:
        HesseValueError: some have it and some do not.
    """
    more = {
        name: numpy.ndim(given[name]) == len(leaf.sizes) + 1
        for name, leaf in program.leaves.items()
        if name in given and leaf.per_sample and leaf.is_given
    }
    if any(more.values()) and not all(more.values()):
        many, single = (
            next(name for name in more if more[name] is batched) for batched in (True, False)
        )
        leaf, count = program.leaves[single], len(given[many])
        classes = ", one-hot where they are classes" if leaf.sums_to == 1 else ""
        raise HesseValueError(
            f"{single}: expected {_axes(replace(leaf, sizes=(count, *leaf.sizes)))}{classes}, as"
            f" {many} holds {count} samples; got shape {tuple(numpy.shape(given[single]))};"
            " give both for many samples or both for one"
        )
    return any(more.values())


def bound_sizes(given: Mapping[str, Any], program: Program) -> dict[str, int]:
    """A number for each symbolic size, from the shapes of what was given.

    Raises:
        HesseValueError: the number of axes is wrong, or two sizes contradict each other.
    """
    sizes: dict[str, int] = {}
    came_from: dict[str, str] = {}  # the first array that had a size decides
    later: list[tuple[str, int, Size, int]] = []  # n-1 is known when n is
    for name, array in given.items():
        leaf, shape = program.leaves[name], tuple(array.shape)
        if len(shape) != len(leaf.sizes):
            raise HesseValueError(f"{name}: expected {_axes(leaf)}, got an array of shape {shape}")
        for axis, (size, length) in enumerate(zip(leaf.sizes, shape, strict=True)):
            if isinstance(size, str) and not is_derived(size):
                sizes.setdefault(size, length)
                came_from.setdefault(size, name)
            later.append((name, axis, size, length))
    for name, axis, size, length in later:
        if not sizes.keys() >= {*letters(size)}:
            continue
        known, why = number(size, sizes.__getitem__), f"size {size}"
        if known != length:
            if isinstance(size, str):
                why = f"{size} = {known} by {', '.join(came_from[n] for n in letters(size))}"
            leaf, shape = program.leaves[name], tuple(given[name].shape)
            raise HesseValueError(
                f"{name}: expected {_axes(leaf)}, got shape {shape}; axis {axis} has {length},"
                f" expected {why}"
            )
    return sizes


def shape_text(sizes: tuple[Size, ...]) -> str:
    """Sizes as Python writes a shape."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def _axes(leaf: Leaf) -> str:
    return f"shape {shape_text(leaf.sizes)}" if leaf.sizes else "a scalar"


def check_present(needed: tuple[str, ...], given: Mapping[str, Any], program: Program) -> None:
    """Refuse to go on without an array that is needed.

    Raises:
        HesseKeyError: it is missing.
    """
    missing = [name for name in needed if name not in given and program.leaves[name].is_given]
    if missing:
        wanted = "; ".join(f"{name}, {_axes(program.leaves[name])}" for name in missing)
        raise HesseKeyError(
            f"missing: {wanted}. Needed are"
            f" {', '.join(n for n in needed if program.leaves[n].is_given)}"
        )


def bound_functions(
    given: Mapping[str, Any], program: Program
) -> tuple[dict[str, str], dict[str, Derivatives]]:
    """Unknown functions that stand for known ones, by name, and those given as a tuple of f, f' and
    f''.

    Raises:
        HesseKeyError: a name that is no unknown function of the program, or no known one.
        HesseTypeError: neither a name nor functions.
    """
    known: dict[str, str] = {}
    derivatives: dict[str, Derivatives] = {}
    for name, value in given.items():
        if name not in program.unknown:
            unknown = sorted(program.unknown)
            raise HesseKeyError(
                f"no unknown function is called {name!r}; "
                + (f"expected {nearest(name, unknown)}" if unknown else "there is none")
            )
        if isinstance(value, str):
            if value not in FUNCTIONS:
                raise HesseKeyError(
                    f"{name}: no function is called {value!r}; nearest:"
                    f" {nearest(value, list(FUNCTIONS))}"
                )
            known[name] = value
        elif isinstance(value, tuple | list) and value and all(callable(part) for part in value):
            derivatives[name] = tuple(value)
        else:
            raise HesseTypeError(
                f"{name}: expected the name of a function, such as 'tanh', or the functions (f, f',"
                f" f''); got {type(value).__name__}"
            )
    return known, derivatives


# Kept, because `evaluate` knows what it has compiled by the functions themselves.
@lru_cache
def differentiated(f: Callable[[torch.Tensor], torch.Tensor]) -> Derivatives:
    """(f, f', f'') of a function of tensors, by automatic differentiation; each takes tensors and
    NumPy arrays."""

    def derivative(order: int) -> Callable[[Any], Any]:
        def values(z: Array) -> Array:
            if isinstance(z, torch.Tensor):
                return nth_derivative(f, order, z)
            return nth_derivative(f, order, torch.tensor(z)).numpy(force=True)

        return values

    return tuple(derivative(order) for order in range(3))


def derivative_of(
    functions: Mapping[str, Derivatives], name: str, order: int
) -> Callable[[Any], Any]:
    """One derivative of an unknown function.

    Raises:
        HesseKeyError: nothing was given for it, or not that derivative.
    """
    marks = "'" * order
    if name not in functions:
        raise HesseKeyError(
            f"{name} is unknown here: give functions={{{name!r}: 'tanh'}}, or its ({name}, {name}',"
            f" {name}'')"
        )
    if len(functions[name]) <= order:
        raise HesseKeyError(
            f"{name}: {name}{marks} is needed, got only {len(functions[name])} of ({name}, {name}',"
            f" {name}'')"
        )
    return functions[name][order]
