"""What a derivation begins with: shapes, indices, maps, and how its blocks make up H."""

from collections.abc import Collection, Iterator, Sequence

from hesse.derivation.calculus.expression import (
    Apply,
    Entry,
    Expression,
    Index,
    Size,
    Term,
    own_indices,
    walk,
)
from hesse.derivation.calculus.name import Name
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Leaf, Program, Quantity
from hesse.derivation.calculus.sizes import size_text
from hesse.derivation.lines.records import Block, Line, Record
from hesse.derivation.show.document import Map, Run
from hesse.derivation.show.readings import Reading
from hesse.derivation.sources.language.vocabulary import CONSTANTS

SIGNALS = ("delta", "curvature", "transport", "slope")


def all_lines(record: Record) -> Iterator[Line]:
    """Every line: of the first derivatives, of the stages, of the blocks, of what else is shown."""
    for part in (*record.slopes.values(), *record.stages, *record, *record.derived):
        yield from part.lines


def _named(line: Line) -> Iterator[str]:
    """The names that a line defines, its own and those of the lines that it is written for."""
    yield from (each.name.name for each in (line, *line.likewise) if each.name is not None)


# ---------------------------------------------------------------- quantities


def forward(program: Program) -> list[Quantity]:
    """The quantities of the cost itself that have a formula, in order, the cost last; none whose
    name is its formula."""
    return [
        quantity
        for quantity in program.quantities
        if quantity.role not in SIGNALS
        and not isinstance(quantity.definition, BlackBox)
        and not _is(quantity, quantity.name)
    ]


def signals(record: Record) -> list[Quantity]:
    """The δ, S and D that what is shown mentions and no line of it defines; stages define theirs,
    for any two layers."""
    # Stages define theirs, for any two layers.
    if record.stages:
        return []
    program, lines = record.program, list(all_lines(record))
    named = {name for line in lines for name in _named(line)}
    shown = [*(line.after for line in lines), *(block.expression for block in record)]
    return [
        quantity
        for quantity in program.quantities
        if quantity.role in SIGNALS
        and quantity.name not in named
        and any(program.depends(expression, quantity.name) for expression in shown)
    ]


def note_of(quantity: Quantity) -> str:
    """What is said beside a definition, where it says more than that."""
    plain = quantity.role in ("preactivation", "activation") or _is(quantity, quantity.note)
    return "" if plain else quantity.note


def _is(quantity: Quantity, formula: str) -> bool:
    """Whether a quantity is defined as a function of an array that reads like this:
    ``softmax(z)``."""
    match quantity.definition:
        case ArrayCall(operation, argument):
            return formula == f"{operation}({argument.name})"
        case Expression((Term(one, (Apply(operation, 0, Entry(name)),)),)) if one == 1:
            return formula == f"{operation}({name})"
    return False


def maps(program: Program, reading: Reading) -> tuple[Map, ...]:
    """The maps without a formula, in order."""
    boxes = {q.name: q.definition for q in program.quantities if isinstance(q.definition, BlackBox)}
    # A box of order one or two is a derivative of another, which it names.
    slopes: dict[str, list[str]] = {}
    for name, box in boxes.items():
        parts = Name.read(name).derivative if box.order else None
        if parts:
            slopes.setdefault(parts[0], []).append(name)

    def shaped(name: str) -> tuple[str, tuple[Size, ...] | None]:
        return name, reading.shape(program.shape(name))

    return tuple(
        Map(
            box.operation,
            tuple(map(shaped, box.arguments)),
            shaped(name),
            tuple(slopes.get(name, ())),
        )
        for name, box in boxes.items()
        if not box.order
    )


# ---------------------------------------------------------------- shapes and indices


def shapes(record: Record) -> list[tuple[str, tuple[Size, ...]]]:
    """Each leaf with its sizes: the parameters first. Constants that stand for a condition are not
    arrays to the reader."""
    leaves = [leaf for leaf in record.program.leaves.values() if leaf.shown is None]
    order = {name: place for place, name in enumerate(record.parameters)}
    # What is derived by, what is given, and what has a value.
    ranks = {"parameter": 0, "direction": 0, "data": 1, "constant": 2}
    leaves.sort(key=lambda leaf: (order.get(leaf.name, len(order)), ranks[leaf.role]))
    return [(leaf.name, leaf.sizes) for leaf in leaves]


def declared(program: Program) -> tuple[str, ...]:
    """What is given of arrays besides their shapes."""
    given = (
        leaf.structure.fact.replace("A", leaf.name) + " is given"
        for leaf in program.leaves.values()
        if leaf.structure is not None
    )
    made = (
        leaf.pattern.fact.format(leaf.name)
        for leaf in program.leaves.values()
        if leaf.pattern is not None
    )
    return (*given, *made)


def guesses(program: Program, names: Collection[str] | None = None) -> tuple[str, ...]:
    """What was taken for a number, or for a vector, and could be the other; among some names, by
    default all."""
    return tuple(
        _guess(leaf)
        for leaf in program.leaves.values()
        if (names is None or leaf.name in names) and _is_guessed(leaf)
    )


def _is_guessed(leaf: Leaf) -> bool:
    return leaf.otherwise is not None or (leaf.name in CONSTANTS and leaf.role == "constant")


def _guess(leaf: Leaf) -> str:
    if leaf.otherwise is None:
        return (
            f"{leaf.name} is the number {CONSTANTS[leaf.name]:.6g}…; declare {leaf.name}[] for a"
            " name of yours"
        )
    return (
        f"{leaf.name} is taken as {_kind(leaf.sizes)}; declare"
        f" {leaf.name}[{','.join(map(str, leaf.otherwise))}] for {_kind(leaf.otherwise)}"
    )


def _kind(sizes: Sequence[Size]) -> str:
    return ("a number", "a vector", "a matrix")[len(sizes)]


def runs(record: Record) -> tuple[Run, ...]:
    """All indices of a derivation, by what they run over."""
    letters: dict[Size, dict[str, None]] = {}
    for index in _all_indices(record):
        letters.setdefault(index.size, {}).setdefault(index.name)
    counts: dict[Size, list[str]] = {}
    for name, sizes in shapes(record):
        for axis, size in enumerate(sizes):
            counts.setdefault(size, []).append(_axis(axis, len(sizes), name))
    for quantity in record.program.quantities:
        if len(quantity.indices) == 1 and quantity.role not in SIGNALS:
            counts.setdefault(quantity.indices[0].size, []).append(f"entries of {quantity.name}")
    return tuple(
        Run(tuple(names), size, _listed(counts.get(size, []))) for size, names in letters.items()
    )


def _axis(axis: int, rank: int, name: str) -> str:
    if rank == 1:
        return f"entries of {name}"
    if rank == 2:
        return f"{('rows', 'columns')[axis]} of {name}"
    return f"axis {axis + 1} of {name}"


def _listed(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def _all_indices(record: Record) -> Iterator[Index]:
    for quantity in record.program.quantities:
        yield from quantity.indices
        match quantity.definition:
            case Expression():
                yield from _within(quantity.definition)
            case ArrayCall(_, argument):
                yield from argument.indices
    for slope in record.slopes.values():
        yield from slope.parameter.indices
    for block in record:
        yield from (*block.rows.indices, *block.columns.indices)
    for line in all_lines(record):
        yield from (*_within(line.before), *_within(line.after))


def _within(value: Expression) -> Iterator[Index]:
    return (index for node in walk(value) for index in own_indices(node))


# ---------------------------------------------------------------- blocks


def block_name(record: Record, block: Block) -> str:
    """``the mixed block b`` or ``a diagonal block``, in words."""
    names = block.rows.name, block.columns.name
    if len(record.parameters) == 1:
        return "the Hessian"
    kind = "diagonal" if names[0] == names[1] else "mixed"
    if len(record.parameters) > 2 or not {*names} <= {*record.parameters}:
        return f"a {kind} block"
    first, second = map(record.parameters.index, names)
    # a is 0 + 0, b is 0 + 1 or 1 + 0, c is 1 + 1.
    letter = "abc"[first + second]
    return f"the {kind} block {letter}" + (", transposed" if first > second else "")


def block_shape(block: Block) -> tuple[Size, ...]:
    """The sizes of a block: those of its rows, then those of its columns."""
    return tuple(index.size for index in (*block.rows.indices, *block.columns.indices))


def grid(record: Record) -> tuple[tuple[str, ...], ...]:
    """The assembled Hessian of two parameters as a grid of the names of its blocks, ``^T`` for a
    transpose."""
    two = len(record.parameters) == 2 and not record.program.cost.indices
    return (("a", "b"), ("b^T", "c")) if two else ()


def conventions(record: Record, reading: Reading) -> Iterator[str]:
    """What the blocks are, how often each stands in H, and in which order vec counts."""
    cost, names = record.program.cost.name, record.parameters
    if record.program.cost.indices:  # a vector has no H
        return
    entries = {block.rows.name: block.rows for block in record}
    entries |= {block.columns.name: block.columns for block in record}
    entries |= {name: slope.parameter for name, slope in record.slopes.items()}
    # A reading without indices has nothing to say about vec.
    entries = {name: reading.entry(entry) for name, entry in entries.items()}
    # Letters for any matrix and any index: none that stands for something here.
    A, B, *_ = sorted("ABCDEFGH", key=record.program.names.__contains__)
    o, p, *_ = sorted("opqrst", key=record.program.names.__contains__)
    i, j, *_ = sorted("ijklmn", key=record.program.names.__contains__)
    if len(names) == 2:
        first, second = names
        blocks = (
            f"a = ∂²{cost}/∂{first}∂{first}, b = ∂²{cost}/∂{first}∂{second} and c ="
            f" ∂²{cost}/∂{second}∂{second}"
        )
        below = f"∂²{cost}/∂{second}∂{first}"
        yield from (sentence.format(blocks=blocks, below=below) for sentence in reading.meaning)
    elif len(names) > 2:
        yield (
            f"H has a block H[{A}, {B}] = ∂²{cost}/∂{A}∂{B} for each pair of parameters;"
            f" H[{B}, {A}] is its transpose."
        )
    if any(entry.indices for entry in entries.values()):
        yield f"Rows and columns of H: {', then '.join(f'vec({name})' for name in names)}."
        counted = [
            f"{name}[{','.join(index.name for index in entry.indices)}] is number {position(entry)}"
            f" of vec({name})"
            for name, entry in entries.items()
            if len(entry.indices) > 1
        ]
        yield (
            "Entries are counted row by row, from 0"
            + (f": {'; '.join(counted)}" if counted else "")
            + "."
        )
        if any(len(block_shape(block)) > 2 for block in record):
            yield (
                f"The matrix {A} ⊗ {B} has the entry {A}[{o},{p}] {B}[{i},{j}] in row ({o}, {i})"
                f" and column ({p}, {j})."
            )
    if record.program.samples is not None:
        yield (
            f"{cost} is one sample's cost: over many samples each block is the"
            f" {record.program.samples} of theirs."
        )


def position(entry: Entry) -> str:
    """Where an entry stands in vec, counted from nought and row by row: ``o·d + i``."""
    text = ""
    for index in entry.indices:
        # Horner's way: (o·d + i)·e + j.
        front, size = (
            f"({part})" if "+" in part or "−" in part else part
            for part in (text, size_text(index.size))
        )
        text = f"{front}·{size} + {index.name}" if text else index.name
    return text


# ---------------------------------------------------------------- in words


def shape_text(sizes: Sequence[Size]) -> str:
    """``(h, d)``; a scalar is ``()``."""
    return f"({', '.join(map(size_text, sizes))}{',' if len(sizes) == 1 else ''})"
