"""`hesse.derive`: from an expression, a network or a cost to the derivation of its Hessian."""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from hesse.cost import Cost
from hesse.derivation.calculus.differentiation import with_companions
from hesse.derivation.calculus.expression import Size
from hesse.derivation.calculus.program import Program
from hesse.derivation.check.certification import certified_somewhere
from hesse.derivation.check.own_arrays import checked_at
from hesse.derivation.code.agreement import require_agreement
from hesse.derivation.code.binding import shape_text
from hesse.derivation.derivation import Derivation
from hesse.derivation.lines.adjoints import Adjoints, adjoints
from hesse.derivation.lines.by_layer import Stages
from hesse.derivation.lines.in_full import InFull
from hesse.derivation.lines.jacobian import jacobian, page_of
from hesse.derivation.lines.length import PLACES, Length, require_few_links
from hesse.derivation.lines.page import Page
from hesse.derivation.lines.quotients import in_no_value
from hesse.derivation.lines.records import Block
from hesse.derivation.lines.stage_lines import stages
from hesse.derivation.lines.steps import Expander, block, slope
from hesse.derivation.sources.language import program as program_of_text
from hesse.derivation.sources.networks.network import Network
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest
from hesse.process.undisturbed import undisturbed

WRITTEN_OUT = 3  # so many layers are written out in full; more go stage by stage
# Second derivatives between two places where one parameter enters, each of which gets a name.
MOST_PAIRS = 300
# Symbols and signs of all lines together: of a text some dozens of pages of print; of a cost, whose
# names are long, six megabytes of HTML. How many are to come is seen by so many blocks of a kind.
MOST_WRITTEN, MOST_OF_A_COST, SEEN = 2**16, 24_000, 4
OWN_SAMPLES = 2  # of a cost, at which its derivation is certified on top of random points


@dataclass(frozen=True)
class LineWriter:
    """Writes the blocks of one derivation that are asked for later."""

    page: Page
    expander: Expander

    def block(self, rows: str, columns: str) -> tuple[Block, Program]:
        """A second derivative, and the program with the names that it needed."""
        return block(self.page, self.expander, rows, columns), self.page.program


@undisturbed()
def derive(
    source: str | Network | Cost,
    wrt: str | Sequence[str] | None = None,
    *,
    shapes: str | Mapping[str, Sequence[Size]] | None = None,
    given: str | Iterable[str] = (),
    stagewise: bool | None = None,
    certify: bool = True,
) -> Derivation:
    """Derive every block of a Hessian, line by line, each line with its rule and each line
    certified; of an expression that is a vector or a matrix, its first derivatives.

    Args:
        source: a cost as text, such as ``"1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"``; a `Network`; or a
            `Cost`, whose model is traced. Text may be a vector too, ``"W @ x"``: then there are no
            blocks, and `Derivation.jacobian` gives ∂f/∂W.
        wrt: the parameters, by name. An expression needs them; of a network or a cost they are all,
            unless some are named.
        shapes: of an expression, where they cannot be inferred: ``"W1[h,d] x[d] a[]"``, sizes as
            letters or numbers, ``[]`` a scalar. A name that stands like a number, as ``lam`` in
            ``lam*w.T @ w``, is one; where it could be a vector too, the derivation says so.
        given: what is known of an expression's arrays: ``"sum(y) == 1"`` along the last axis,
            ``"Omega == 1"`` for every entry, ``"l > 0"`` (of a square matrix: positive definite),
            ``"A == A.T"``, ``"A == diag(diag(A))"``, ``"Q.T @ Q == eye(n)"``.
        stagewise: whether each layer adds lines of its own in δ, S and D, so that the length grows
            linearly with the depth, rather than every block being written out down to the
            parameters. By default from four layers on, unless a parameter enters at more than six
            places, as in a recurrent network of many steps.
        certify: whether to evaluate every line at random points, and every block against automatic
            differentiation. What is certified is bounded in its length, of a cost to 24,000 symbols
            in all its lines, 48,000 where steps repeat, and to 100 quantities one after the other;
            with False it is not, but for how deep Python lets functions call each other.

    From four layers on there are lines for the diagonal blocks and for one beside them, unless
    ``stagewise`` is False; any other is written when it is asked for.

    Raises:
        HesseError: text that is not a cost, names or shapes that do not fit; or a line that does
            not hold, which is a fault of hesse.

    Examples:
        >>> import hesse
        >>> d = hesse.derive("1/2*sum((y - X @ w)**2)", wrt=["w"])
        >>> print(d.block("w", "w").matrix())
        XᵀX
        >>> d.certificate.lines
        7
    """
    for argument, value in (("certify", certify), ("stagewise", stagewise)):
        if not isinstance(value, bool) and not (argument == "stagewise" and value is None):
            raise HesseTypeError(f"{argument}: expected True or False, got {value!r}")
    if isinstance(source, str):
        if wrt is None:
            raise HesseValueError(
                "wrt: an expression needs the names of its parameters, such as wrt=['W1', 'W2']"
            )
        program, parameters = program_of_text(source, wrt, shapes, given)
        return written(
            source,
            program,
            parameters,
            stagewise=stagewise,
            certify=certify,
            bounded=certify and not stagewise,
        )
    if shapes is not None or not (isinstance(given, str | Sequence) and not given):
        raise HesseValueError(
            "shapes and given are for expressions; a network or a cost knows its own"
        )
    if isinstance(source, Network):
        program, names = source.program()
        return written(
            f"Network({source})",
            program,
            parameters_asked(wrt, names),
            stagewise=stagewise,
            certify=certify,
            most=MOST_OF_A_COST if certify else None,
        )
    if isinstance(source, Cost):
        return _of_cost(source, wrt, stagewise=stagewise, certify=certify)
    raise HesseTypeError(
        "source: expected an expression as text, a hesse.Network or a hesse.Cost, got"
        f" {type(source).__name__}"
    )


def _of_cost(
    cost: Cost, wrt: str | Sequence[str] | None, *, stagewise: bool | None, certify: bool
) -> Derivation:
    """The derivation for the loss of one sample, certified on the cost's own parameters and first
    samples too."""
    # The rules of all traced operations, which only a cost needs.
    from hesse.derivation.sources.networks.graph import program_of

    traced = program_of(cost)
    whole = cost.scale * cost.samples
    # A mean divides by the samples: its scale times their number is one, up to rounding.
    samples = "mean" if abs(whole - 1) < 1e-9 else "sum" if cost.scale == 1 else None
    if traced.whole is not None:
        samples = None
    program = replace(traced.program, samples=samples)
    chosen = parameters_asked(wrt, traced.parameters)
    result = written(
        str(cost),
        program,
        chosen,
        stagewise=stagewise,
        certify=certify,
        functions=traced.functions,
        most=MOST_OF_A_COST if certify else None,
    )
    notes = [] if cost.data is None else [_over_samples(cost, samples, traced.whole)]
    notes += _of_penalty(cost)
    if certify:
        traced.check_value(OWN_SAMPLES)
        checked = [checked_at(result, arrays) for arrays in traced.samples(OWN_SAMPLES)]
        own = "cost's own parameters"
        if traced.whole is None:
            own = f"model's own parameters at {len(checked)} of its samples"
        skipped = checked[0].skipped
        notes.append(
            f"First derivatives and blocks checked on the {own} as well:"
            f" largest deviation {max(check.deviation for check in checked):.0e}"
            + (f"; {skipped} of them are too large for that." if skipped else ".")
        )
    return replace(result, notes=(*result.notes, *notes), cost_arrays=traced.cost_arrays())


def _over_samples(cost: Cost, samples: str | None, whole: str | None) -> str:
    if whole is not None:
        return f"J is the cost of all {cost.samples} samples together: {whole}."
    how = f"{cost.scale:.6g} times its sum" if samples is None else f"its {samples}"
    return (
        f"J is the loss of one sample. The cost is {how} over {cost.samples} samples, and so is"
        " each block."
    )


def _of_penalty(cost: Cost) -> list[str]:
    if cost.penalty is None:
        return []
    if isinstance(cost.penalty, int | float):
        return [
            f"The penalty 1/2 · {cost.penalty:g} ‖θ‖² adds {cost.penalty:g} to the diagonal of each"
            " parameter's own block."
        ]
    return [
        "The penalty is a function of its own; its second derivatives are added to those below."
    ]


def parameters_asked(wrt: str | Sequence[str] | None, names: tuple[str, ...]) -> tuple[str, ...]:
    """The parameters that are named, in the order of the layout."""
    if wrt is None:
        return names
    if not isinstance(wrt, Iterable):
        raise HesseTypeError(
            f"wrt must be the names of parameters, as text or in a list; got {wrt!r}"
        )
    asked = wrt.replace(",", " ").split() if isinstance(wrt, str) else list(wrt)
    if not asked:
        raise HesseValueError("wrt is empty; leave it out for all parameters")
    for name in asked:
        if not isinstance(name, str):
            raise HesseTypeError(f"wrt must hold names; got {name!r}")
        if name not in names:
            raise HesseKeyError(
                f"wrt: there is no parameter {name!r}; the nearest: {nearest(name, list(names))}"
            )
    return tuple(name for name in names if name in asked)


def written(
    source: str,
    program: Program,
    parameters: tuple[str, ...],
    *,
    stagewise: bool | None,
    certify: bool,
    functions: Mapping[str, Callable[[Tensor], Tensor]] | None = None,
    bounded: bool = False,
    most: int | None = None,
) -> Derivation:
    """The derivation of a program.

    Args:
        source, program, parameters, stagewise, certify, functions: as in `derive`.
        bounded: whether lines, and blocks of a text, that are too long to read are refused.
        most: symbols of all lines together, of a cost; None: any number.

    Raises:
        HesseValueError: more quantities are made one from the other than can be followed, a line is
            too long, or a parameter enters at too many places for stages.
    """
    try:
        return _written(
            source, program, parameters, stagewise, certify, functions or {}, bounded, most
        )
    except RecursionError:  # every walk over what a quantity is made of is recursive
        raise HesseValueError(
            f"derive: {program.cost.name} is made of {len(program.quantities)} quantities one after"
            " the other, more than can be followed; derive its parts, or let Python's functions"
            f" call each other deeper than {sys.getrecursionlimit():,}: sys.setrecursionlimit"
        ) from None


def _written(
    source: str,
    program: Program,
    parameters: tuple[str, ...],
    stagewise: bool | None,
    certify: bool,
    functions: Mapping[str, Callable[[Tensor], Tensor]],
    bounded: bool,
    most: int | None,
) -> Derivation:
    if certify:
        require_few_links(program)
    program = with_companions(program)
    if program.cost.indices:
        return _of_vector(source, program, parameters, stagewise, certify, bounded)
    first = adjoints(program, parameters)
    # A block written out grows with the depth, and there are more of them too: stages grow by
    # their own lines alone.
    layers = sum(quantity.role == "preactivation" for quantity in first.program.quantities)
    # What enters at many places has a term for each two of them in S and D; written out, one for
    # each.
    tied = max(len(shares) for shares in first.shares.values()) > PLACES
    deep = layers > WRITTEN_OUT and not tied if stagewise is None else stagewise
    if deep:
        if certify:
            _require_few_places(first)
        # The stages need a δ wherever a parameter enters.
        first = adjoints(in_no_value(program), parameters, every_slot=True)
    # A model has the size that it has; a text that makes a line of pages is seldom meant.
    page = Page(first.program, first, bounded=bounded, most=most, repeats=tied and not deep)
    length = Length(page) if page.repeats else None
    expander = Stages(page) if deep else InFull(page)
    # The stages write the δ out themselves.
    slopes = {name: slope(page, name, signals=not deep) for name in parameters}
    wanted = [(a, b) for k, a in enumerate(parameters) for b in parameters[k:]]
    if deep or (layers > WRITTEN_OUT and stagewise is None):
        # The diagonal blocks and one example; any other is written when it is asked for.
        wanted = [*((name, name) for name in parameters), *page.example(parameters)]
    blocks = _blocks(page, expander, wanted, length)
    levels = stages(expander) if isinstance(expander, Stages) else ()
    page.most = None  # of what is asked for later, there is one block at a time
    result = Derivation(
        source,
        page.program,
        parameters,
        slopes,
        blocks,
        levels,
        _writer=LineWriter(page, expander).block,
        functions=functions,
    )
    if not certify:
        return result
    result, point = certified_somewhere(result)
    if bounded:
        require_agreement(result, point)
    return replace(result, at=point)


def _blocks(
    page: Page, expander: Expander, wanted: Sequence[tuple[str, str]], length: Length | None
) -> dict[tuple[str, str], Block]:
    """The blocks; of a bounded page no more than can be read, which a few of them tell."""
    blocks: dict[tuple[str, str], Block] = {}
    own = {name: page.adjoints.slope(name) for name in dict.fromkeys(b for _, b in wanted)}
    kinds = {(a, b): page.program.depends(own[b], a) for a, b in wanted}
    # Of the blocks that are zero, and of the others: how many are made, and their symbols.
    counts, made, symbols = Counter(kinds.values()), Counter[bool](), Counter[bool]()
    for pair, kind in kinds.items():
        before = page.written
        blocks[pair] = block(page, expander, *pair)
        made[kind] += 1
        symbols[kind] += page.written - before
        if length is not None:
            length.has(pair, page.written - before)
        expected = sum(symbols[k] * counts[k] // max(SEEN, made[k]) for k in counts)
        if page.bounded and len(wanted) > SEEN and expected > MOST_WRITTEN:
            raise HesseValueError(
                f"derive: {len(wanted):,} blocks of the Hessian, {counts[True]:,} of them not zero,"
                f" take some {expected:,} symbols together; at most {MOST_WRITTEN:,} are written."
                " Name fewer parameters with wrt=; certify=False writes them all the same"
            )
    return blocks


def _of_vector(
    source: str,
    program: Program,
    parameters: tuple[str, ...],
    stagewise: bool | None,
    certify: bool,
    bounded: bool,
) -> Derivation:
    """The first derivatives of a vector or a matrix."""
    if stagewise:
        raise HesseValueError(
            "stagewise: the layers of a cost have lines of their own; what was given is of shape"
            f" {shape_text(program.shape(program.cost.name))}: leave stagewise out"
        )
    page = page_of(program, parameters, bounded)
    expander = InFull(page)
    slopes = {name: jacobian(page, expander, name) for name in parameters}
    result = Derivation(source, page.program, parameters, slopes)
    if not certify:
        return result
    result, point = certified_somewhere(result)
    return replace(result, at=point)


def _require_few_places(first: Adjoints) -> None:
    """Refuse stages for a parameter that enters at many places: S and D have a name for each two of
    them."""
    name, places = max(
        ((name, len(shares)) for name, shares in first.shares.items()), key=lambda pair: pair[1]
    )
    pairs = places * (places + 1) // 2
    if pairs > MOST_PAIRS:
        raise HesseValueError(
            f"stagewise: {name} enters at {places} places, and each two of them have a second"
            f" derivative with a name: {pairs:,}; at most {MOST_PAIRS} are written."
            " stagewise=False writes each block out instead; certify=False writes them all the same"
        )
