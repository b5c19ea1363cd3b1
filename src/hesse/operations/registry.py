"""Where records are looked up: by what stands in a graph, by a function's name in the language of
formulas, by a loss."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from hesse.graph.graph import Node
from hesse.operations import (
    algebra,
    arithmetic,
    arranging,
    attention,
    convolution,
    elementwise,
    embedding,
    linear,
    losses,
    normalisation,
    pooling,
    recurrence,
    reductions,
)
from hesse.operations.record import ArrayFunction, Function, Operation

RECORDS: dict[str, Operation] = {}
# The same records by their keys; nothing else is kept, so that a record that is entered or taken
# back is seen everywhere.
BY_TARGET: dict[Any, Operation] = {}
FUNCTIONS: dict[str, Function] = {}
ARRAY_FUNCTIONS: dict[str, ArrayFunction] = {}
# Of an operation that has no record: nothing is declared, and all of it goes the general way.
_UNKNOWN = Operation(name="")


def register(record: Operation) -> None:
    """Enter a record.

    Raises:
        ValueError: something has its name, or stands for the same operation; its derivatives call a
            function without a record.

    Examples:
        >>> import hesse
        >>> from hesse.operations.record import Function, Operation
        >>> cube = Function(
        ...     value=lambda z: z**3, derivatives=("3*z**2", "6*z"), numpy="z**3", torch="z**3"
        ... )
        >>> with registered(Operation(name="cube", function=cube)):
        ...     print(hesse.derive("sum(cube(x))", "x").block("x", "x").matrix())
        6 diag(x)
    """
    unknown = (
        record.function.mentions - {*FUNCTIONS, record.name}
        if record.function is not None
        else set()
    )
    if unknown:
        raise ValueError(
            f"record {record.name!r}: its derivatives call {min(unknown)!r}, which has no record"
        )
    _enter(record)


# Without the check of `register`: within a family a derivative may call a function that is entered
# later, as sin's calls cos.
def _enter(record: Operation) -> None:
    taken = [target for target in record.targets if target in BY_TARGET]
    if taken or record.name in RECORDS:
        raise ValueError(
            f"record {record.name!r}: {taken[0] if taken else 'its name'} has a record already"
        )
    RECORDS[record.name] = record
    BY_TARGET.update(dict.fromkeys(record.targets, record))
    if record.function is not None:
        FUNCTIONS[record.name] = record.function
    if record.array is not None:
        ARRAY_FUNCTIONS[record.name] = record.array


def remove(record: Operation) -> None:
    """Take a record back."""
    del RECORDS[record.name]
    for target in record.targets:
        del BY_TARGET[target]
    FUNCTIONS.pop(record.name, None)
    ARRAY_FUNCTIONS.pop(record.name, None)


@contextmanager
def registered(record: Operation) -> Iterator[Operation]:
    """A record while a block runs."""
    register(record)
    try:
        yield record
    finally:
        remove(record)


def record_of(node: Node) -> Operation:
    """The record of a node's operation; one that knows nothing where there is none."""
    return BY_TARGET.get(node.kind, _UNKNOWN)


for _family in (
    elementwise, arithmetic, linear, convolution, pooling, embedding, arranging, normalisation,
    attention, recurrence, reductions, algebra, losses,
):  # fmt: skip
    for _record in _family.RECORDS:
        _enter(_record)
