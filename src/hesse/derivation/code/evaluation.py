"""The numbers of a formula: its function compiled for NumPy arrays or tensors, and called."""

import ast
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from threading import Lock
from typing import Any

import numpy
import torch

from hesse.derivation.calculus.expression import Expression, Index, Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import batched
from hesse.derivation.calculus.sizes import is_derived, number
from hesse.derivation.code.backends import BACKENDS
from hesse.derivation.code.binding import (
    Array,
    BoundArrays,
    Derivatives,
    arrays_of,
    bound_functions,
    bound_sizes,
    check_names,
    check_present,
    derivative_of,
    holds_samples,
)
from hesse.derivation.code.function import Function
from hesse.derivation.code.schedule import schedule
from hesse.derivation.code.syntax import defined, tree
from hesse.errors import HesseMemoryError, HesseValueError, in_a_line, readable_bytes
from hesse.process.memory import available_bytes

# So many compiled functions are kept, the last ones asked for.
_MOST = 64
# Arrays of more entries than this are let go as soon as nothing needs them.
_LARGE = 1 << 20
# Whether a smaller array fits is left to the system: asking takes longer than making one.
_ASKED = 1 << 28

# By its formula and shapes: a function, what it takes, and the formula.
_kept: OrderedDict[object, tuple[Callable[..., Array], list[str], object]] = OrderedDict()
_lock = Lock()


def evaluate(
    expression: Expression,
    free: tuple[Index, ...],
    program: Program,
    arrays: Mapping[str, Array],
    functions: Mapping[str, str | Derivatives] | None = None,
) -> Array:
    """The array of an expression, with one axis for each free index.

    Of one sample's program, arrays that have one more axis in front are samples, and the result is
    the sum over them.

    Args:
        expression: the result of a derivation, or any line without a derivative that is not carried
            out.
        free: its free indices, those of the rows and then those of the columns.
        program: the leaves and quantities that it names.
        arrays: by name. NumPy arrays give a NumPy array, tensors give a tensor, of their floating
            type and on their device; nothing is recorded for automatic differentiation.
        functions: for each unknown function the name of a known one, ``"tanh"``, or the functions
            (f, f', f'').

    Raises:
        HesseKeyError: a name is missing or unknown.
        HesseValueError: shapes do not fit the program, or each other.
        HesseTypeError: something is not an array of real numbers.
        HesseMemoryError: the result would not fit.

    Examples:
        >>> import numpy
        >>> from hesse.derivation.calculus.expression import Entry, of
        >>> from hesse.derivation.calculus.program import Leaf
        >>> i, j = Index("i", "n"), Index("j", "n")
        >>> given = Program({"A": Leaf("A", ("n", "n"))}, ())
        >>> both = Expression(of(Entry("A", (i, j))).terms + of(Entry("A", (j, i))).terms)
        >>> evaluate(both, (i, j), given, {"A": numpy.array([[1.0, 2.0], [3.0, 4.0]])})
        array([[2., 5.],
               [5., 8.]])
    """
    ready = arrays_of(arrays)
    known, derivatives = bound_functions(functions or {}, program)
    # A long formula is known by its identity: to compare it would take longer than to compute it.
    key = (
        id(expression),
        id(program),
        # Indices of one name are equal, whatever their sizes.
        tuple([(index.name, index.size) for index in free]),
        (ready.like.dtype, getattr(ready.like, "device", None)),
        tuple([(name, array.shape) for name, array in ready.values.items()]),
        tuple(known.items()),
        tuple(derivatives.items()),
    )
    with _lock:
        kept = _kept.get(key)
        if kept is not None:
            _kept.move_to_end(key)
    if kept is None:
        check_names(arrays, program)
        compiled = _Compiler(expression, free, program, ready, known, derivatives).compiled()
        # What the key names by its id is kept as well, so that no other thing can get that id.
        kept = *compiled, (expression, program)
        # Nobody waits while another thread compiles; the same may then be compiled twice.
        with _lock:
            _kept[key] = kept
            while len(_kept) > _MOST:
                _kept.popitem(last=False)
    function, names, _ = kept
    try:
        return function(*[ready.values[name] for name in names])
    except (
        numpy.linalg.LinAlgError,
        torch.linalg.LinAlgError,  # pyright: ignore[reportPrivateImportUsage]
    ) as error:
        raise HesseValueError(
            "evaluate: the formula has the inverse of a matrix, which does not exist at these"
            f" arrays ({in_a_line(error)})"
        ) from error


class _Compiler:
    """A formula for one set of shapes. What a printed function reads from its arguments, or cannot
    have, is bound to its names here: sizes, constants, unknown functions, maps without a formula.
    """

    def __init__(
        self,
        expression: Expression,
        free: tuple[Index, ...],
        program: Program,
        arrays: BoundArrays,
        known: Mapping[str, str],
        derivatives: Mapping[str, Derivatives],
    ) -> None:
        if holds_samples(arrays.values, program):
            expression, program = batched(expression, program)
        self.program, self.arrays, self.derivatives = program, arrays, derivatives
        self.sizes = bound_sizes(arrays.values, program)
        self.schedule = schedule(expression, free, program, self.sizes, known)
        check_present(self.schedule.arguments, arrays.values, program)

    def compiled(self) -> tuple[Callable[..., Array], list[str]]:
        """The function, and the names of the arrays that it takes; it holds none of them."""
        self._check_memory()
        backend = BACKENDS[self.arrays.backend]
        names = backend.names()
        like = names.new("like")
        leaves = [self.program.leaves[name] for name in self.schedule.arguments]
        function = Function(self.schedule, self.program, backend, names, leaves, {}, like)
        bound = {like: self.arrays.constant(1), **self._bound(function)}
        given = {name: own for name, own in function.arguments.items() if own not in bound}
        imports = [tree(f"import {path}") for path in backend.modules.values()]
        definition = defined("formula", list(given.values()), self._letting_go(function))
        module = ast.fix_missing_locations(ast.Module([*imports, definition], []))
        exec(compile(module, "<formula>", "exec"), bound)
        formula = bound["formula"]
        # NumPy's own functions record nothing for automatic differentiation.
        if self.arrays.backend == "torch" or function.writer.functions or function.writer.maps:
            formula = torch.no_grad()(formula)
        return formula, list(given)

    def _bound(self, function: Function) -> dict[str, Any]:
        """A value for each name that no array is given for."""
        writer, program = function.writer, self.program
        constants = {
            identifier: self.arrays.constant(program.leaves[name].constant(self._length))
            for name, identifier in function.arguments.items()
            if not program.leaves[name].is_given
        }
        lengths = {identifier: self._length(size) for size, identifier in writer.lengths.items()}
        functions = {
            identifier: derivative_of(self.derivatives, name, order)
            for (name, order), identifier in writer.functions.items()
        }
        maps = {
            identifier: self.arrays.of_tensors(function)
            for identifier, function in writer.maps.items()
        }
        return {**constants, **lengths, **functions, **maps}

    def _letting_go(self, function: Function) -> list[ast.stmt]:
        """The lines, with large arrays let go after the last that names them."""
        large = {
            identifier
            for identifier, statement in function.arrays.items()
            if self._count(statement.axes) > _LARGE
        }
        backwards: list[ast.stmt] = []
        for statement, _ in reversed(function.lines):
            named = {node.id for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if backwards:  # after the result is returned all of them go
                backwards.extend(tree("del array", array=name) for name in sorted(large & named))
            large -= named
            backwards.append(statement)
        return backwards[::-1]

    def _length(self, size: Size) -> int:
        """A size as a number."""
        if isinstance(size, int):
            return size
        if size in self.sizes:
            return self.sizes[size]
        if is_derived(size):
            return number(size, self._length)
        holders = [n for n, leaf in self.program.leaves.items() if size in leaf.sizes]
        raise HesseValueError(
            f"the size {size} is not known: give"
            f" {' or '.join(holders) or 'an array that has it'} as well"
        )

    def _count(self, axes: tuple[Index, ...]) -> int:
        return prod(self._length(index.size) for index in axes)

    def _check_memory(self) -> None:
        most = max(self._count(statement.axes) for statement in self.schedule.statements)
        most *= self.arrays.like.dtype.itemsize
        if most > _ASKED and most > (free := available_bytes(self.arrays.device)):
            shape = tuple(self._length(index.size) for index in self.schedule.free)
            raise HesseMemoryError(
                f"the result of shape {shape} needs an array of {readable_bytes(most)}, and"
                f" {readable_bytes(free)} are free: give fewer or smaller arrays"
            )
