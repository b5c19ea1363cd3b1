"""The numbers of a formula: its schedule carried out on NumPy arrays or on tensors."""

from collections import OrderedDict
from collections.abc import Mapping
from threading import Lock

from hesse.derivation.calculus.expression import Expression, Index
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import batched
from hesse.derivation.code.binding import (
    Arrays,
    Derivatives,
    arrays_of,
    bound_functions,
    bound_sizes,
    check_names,
    check_there,
    with_samples,
)
from hesse.derivation.code.interpreter import Array, Plan
from hesse.derivation.code.schedule import schedule

_KEPT = 64
_plans: OrderedDict[object, tuple[object, Plan]] = OrderedDict()
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

    Example:
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
    shapes = tuple([(name, array.shape) for name, array in ready.values.items()])
    names, own = bound_functions(functions or {}, program)
    kind = ready.like.dtype, getattr(ready.like, "device", None)
    axes = tuple(
        [(index.name, index.size) for index in free]
    )  # indices of one name are equal, whatever their sizes
    key = (
        id(expression),
        id(program),
        axes,
        kind,
        shapes,
        tuple(names.items()),
        tuple(own.items()),
    )
    with _lock:
        found = _plans.get(key)
        if found is not None:
            _plans.move_to_end(key)
    if found is None:
        # What the key names by its id is kept with the plan, so that no other thing can get that
        # id.
        check_names(arrays, program)
        found = (expression, program), _plan(expression, free, program, ready, names, own)
        with _lock:
            _plans[key] = found
            while len(_plans) > _KEPT:
                _plans.popitem(last=False)
    return found[1](ready)


def _plan(
    expression: Expression,
    free: tuple[Index, ...],
    program: Program,
    arrays: Arrays,
    names: Mapping[str, str],
    functions: Mapping[str, Derivatives],
) -> Plan:
    if with_samples(arrays.values, program):
        expression, program = batched(expression, program)
    sizes = bound_sizes(arrays.values, program)
    made = schedule(expression, free, program, sizes, names)
    check_there(made.arguments, arrays.values, program)
    return Plan(made, program, sizes, arrays, functions)
