"""A derivation, and one block of it as a formula: to read, to print, to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Index, Partial, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import CostArrays
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.lines.records import Block, Certificate, Line, Record
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest
from hesse.process.progress import Progress


@dataclass(frozen=True, repr=False)
class Formula:
    """∂²J/∂rows ∂columns, of shape (*rows.shape, *columns.shape).

    Attributes:
        block: rows, columns, the expression and its lines.
        derivation: what it belongs to.
    """

    block: Block
    derivation: "Derivation"

    @property
    def rows(self) -> Entry:
        """The parameter of the first axes, with its indices."""
        return self.block.rows

    @property
    def columns(self) -> Entry:
        """The parameter of the last axes, with its indices."""
        return self.block.columns

    @property
    def expression(self) -> Expression:
        """The collected result, in the indices of rows and columns."""
        return self.block.expression

    @property
    def lines(self) -> tuple[Line, ...]:
        """From the first derivative to the result."""
        return self.block.lines

    @property
    def indices(self) -> tuple[Index, ...]:
        """Those of the rows, then those of the columns: the axes of the array."""
        return (*self.rows.indices, *self.columns.indices)

    def __repr__(self) -> str:
        return self.text()

    def text(self, reading: str = "indices") -> str:
        """The lines and the result as text, at most 100 columns wide; ``reading`` as in
        `Derivation.text`."""
        from hesse.derivation.show import text

        return text.block_text(self.block, self.derivation, reading)

    def latex(self, reading: str = "indices") -> str:
        """The result as LaTeX, to be put between dollar signs."""
        from hesse.derivation.show import latex

        return latex.block_latex(self.block, self.derivation, reading)

    def html(self) -> str:
        """The block as one self-contained page."""
        from hesse.derivation.show import html

        key = (self.rows.name, self.columns.name)
        return html.page(replace(self.derivation, blocks={key: self.block}, stages=()))

    def matrix(self) -> str | None:
        """The result as a product of matrices, rows and columns counted row by row; None where it
        has no such form."""
        from hesse.derivation.show.matrix import matrix_form
        from hesse.derivation.show.text_writer import TextWriter

        program = self.derivation.program
        form = matrix_form(self.expression, self.rows.indices, self.columns.indices, program)
        return None if form is None else TextWriter(program).write(form)

    def python(self, backend: str = "numpy", name: str = "hessian_block") -> str:
        """A standalone function of the leaves, with named intermediates and the formula in its
        docstring.

        A function without a row in the table of functions, such as ``f``, is an argument, and so
        are its derivatives.

        Args:
            backend: ``"numpy"`` or ``"torch"``.
            name: of the function.

        Raises:
            HesseValueError: the block needs an operation of a model that has no formula.

        Example:
            >>> import hesse
            >>> code = hesse.derive("x @ A @ x", wrt=["x"]).block("x", "x").python()
            >>> "def " in code and "import numpy" in code
            True
        """
        from hesse.derivation.code.python import python
        from hesse.derivation.show.text_writer import text

        program = self.derivation.program
        left = text(of(Partial(program.cost.entry, (self.rows, self.columns))), program)
        return python(
            self.block, program, backend, name, formula=f"{left} = {text(self.expression, program)}"
        )

    def evaluate(self, **arrays: Any) -> Any:
        """The array at given leaves, of shape (*rows.shape, *columns.shape).

        Of a `Cost` that was derived, what is not given is its own: ``evaluate()`` is the block at
        its parameters, over all its samples, in float64 and without its penalty.

        Args:
            **arrays: NumPy arrays, which give a NumPy array, or tensors, which give a tensor. For a
                network, ``x`` and ``y`` with one more axis in front hold samples, and the block is
                that of their sum or mean. An unknown function is the name of a known one,
                ``f="tanh"``, or its derivatives (f, f', f'').

        Example:
            >>> import numpy, hesse
            >>> d = hesse.derive("x @ A @ x", wrt=["x"])
            >>> d.block("x", "x").evaluate(A=numpy.array([[1.0, 2.0], [0.0, 3.0]]))
            array([[2., 2.],
                   [2., 6.]])
        """
        from hesse.derivation.code.binding import differentiated, holds_samples
        from hesse.derivation.code.evaluation import evaluate

        program, cost_arrays = self.derivation.program, self.derivation.cost_arrays
        functions: dict[str, str | tuple[Callable[..., Any], ...]] = {
            name: differentiated(f)
            for name, f in self.derivation.functions.items()
            if name in program.unknown
        }
        functions |= {name: arrays.pop(name) for name in sorted(program.unknown) if name in arrays}
        data = [
            name
            for name, leaf in program.leaves.items()
            if leaf.role != "parameter" and name in arrays
        ]
        if cost_arrays is not None and not data:
            total: Any = 0
            with Progress("samples", cost_arrays.count) as bar:
                for count, some in cost_arrays.chunks():
                    here = {**_alike(some, arrays), **arrays}
                    total = total + evaluate(
                        self.expression, self.indices, program, here, functions
                    )
                    bar.advance(count)
            return total * cost_arrays.scale
        if cost_arrays is not None:
            arrays = {**_alike(cost_arrays.parameters, arrays), **arrays}
        found = evaluate(self.expression, self.indices, program, arrays, functions)
        if program.samples == "mean" and holds_samples(arrays, program):
            some = next(
                name for name, leaf in program.leaves.items() if leaf.per_sample and name in arrays
            )
            return found / len(arrays[some])
        return found

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"


@dataclass(frozen=True, repr=False)
class Derivation(Record):
    """The derivation of a Hessian: every line with its rule, every line certified.

    Made by `hesse.derive`. ``print`` shows all of it, its name by itself what it came to; in a
    notebook it shows itself.

    Attributes:
        source, program, parameters, slopes, blocks, stages, notes, certificate, functions: as in
            `hesse.derivation.lines.records.Record`.
        writer: writes a block that is not there yet, and the program with the names it needed.
        at: the point at which everything was certified.
        cost_arrays: the parameters and the data of a cost that was derived.
    """

    writer: Callable[[str, str], tuple[Block, Program]] | None = field(
        default=None, repr=False, compare=False
    )
    at: Valuation | None = field(default=None, repr=False, compare=False)
    cost_arrays: CostArrays | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        from hesse.derivation.show import text

        return text.summary(self)

    def block(self, rows: str, columns: str) -> "Formula":
        """The formula of one block, ∂²J/∂rows ∂columns.

        The one with the two exchanged is its transpose, with one line more that says so.

        Raises:
            HesseKeyError: a name that is not a parameter of this derivation.

        Example:
            >>> import hesse
            >>> d = hesse.derive("x @ A @ x", wrt=["x"])
            >>> print(d.block("x", "x").matrix())
            A + Aᵀ
        """
        return _formula(self, rows, columns)

    def steps(self, rows: str, columns: str) -> tuple[Line, ...]:
        """The lines of one block: rule, before, after, reason.

        Example:
            >>> import hesse
            >>> d = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
            >>> [line.rule for line in d.steps("W1", "W2")][:3]
            ['start', 'product rule', 'chain rule']
        """
        return self.block(rows, columns).lines

    def text(self, reading: str = "indices") -> str:
        """The whole derivation as text, at most 100 columns wide.

        Args:
            reading: ``"indices"``, ``"matrix"``, or ``"scalar"``: one weight per layer.
        """
        from hesse.derivation.show import text

        return text.page(self, reading)

    def write(self, expression: Expression, reading: str = "indices") -> str:
        """One expression of this derivation, such as a side of a line, as text on one line.

        Example:
            >>> import hesse
            >>> d = hesse.derive("x @ A @ x", wrt=["x"])
            >>> d.write(d.slopes["x"].expression, "scalar")
            '2 A x'
        """
        from hesse.derivation.show.text_writer import text

        if not isinstance(expression, Expression):
            raise HesseTypeError(
                "expression: expected one of this derivation, such as a line's after; got"
                f" {type(expression).__name__}"
            )
        return text(expression, self.program, reading)

    def latex(self) -> str:
        """A LaTeX document that compiles as it stands."""
        from hesse.derivation.show import latex

        return latex.document(self)

    def html(self) -> str:
        """One self-contained page: MathML, steps that unfold, light and dark; nothing is loaded
        from elsewhere.

        Raises:
            HesseImportError: the extra ``html`` is not installed.
        """
        from hesse.derivation.show import html

        return html.page(self)

    def certify(self, seed: int = 0) -> Certificate:
        """Check every line again, at other random points.

        Args:
            seed: of the points, a whole number from 0 on.

        Raises:
            HesseValueError: a line is wrong; the text names it.

        Example:
            >>> import hesse
            >>> d = hesse.derive("sum(exp(A @ x))", wrt=["A", "x"])
            >>> d.certify(seed=1).deviation < 1e-10
            True
        """
        from hesse.derivation.check.certification import certified_somewhere

        if type(seed) is not int or not 0 <= seed <= 2**62:
            kind = HesseValueError if type(seed) is int else HesseTypeError
            raise kind(f"seed: expected a whole number from 0 to 2**62, got {seed!r}")
        certificate = certified_somewhere(self, seed)[0].certificate
        assert certificate is not None
        return certificate

    def _repr_html_(self) -> str:
        from hesse.derivation.show import html

        return html.fragment(self)


def _alike(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cost's own tensors as arrays of the kind that was given."""
    if not given or any(isinstance(value, Tensor) for value in given.values()):
        return own
    return {name: value.cpu().numpy() for name, value in own.items()}


def _formula(derivation: Derivation, rows: str, columns: str) -> Formula:
    """A block of a derivation, written now where it is not there yet."""
    for name in (rows, columns):
        if not isinstance(name, str):
            raise HesseTypeError(f"block: rows and columns are names of parameters; got {name!r}")
        if name not in derivation.parameters:
            close = nearest(name, list(derivation.parameters))
            raise HesseKeyError(
                f"block: {name!r} is not a parameter of this derivation; the nearest: {close}"
            )
    order = derivation.parameters.index
    if order(rows) > order(columns):
        return _transposed(_formula(derivation, columns, rows))
    if (rows, columns) not in derivation.blocks:
        derivation = _with_block(derivation, rows, columns)
    return Formula(derivation.blocks[rows, columns], derivation)


def _with_block(derivation: Derivation, rows: str, columns: str) -> Derivation:
    """The derivation with one more block, certified at the same point as the others."""
    from hesse.derivation.check.certification import certified

    assert derivation.writer is not None, "a derivation without a writer has all its blocks"
    block, program = derivation.writer(rows, columns)
    alone = replace(
        derivation, program=program, slopes={}, stages=(), blocks={(rows, columns): block}
    )
    if derivation.at is not None:
        alone = certified(alone, derivation.at.extended(alone.program))
    return replace(derivation, program=alone.program, blocks={**derivation.blocks, **alone.blocks})


def _transposed(other: Formula) -> Formula:
    block = other.block
    cost = other.derivation.program.cost.entry
    last = Line(
        str(sum(line.label.isdigit() for line in block.lines) + 1),
        "symmetry",
        of(Partial(cost, (block.columns, block.rows))),
        block.expression,
        "the order of differentiation does not matter: the transpose of the block above",
        deviation=block.deviation,
    )
    turned = replace(block, rows=block.columns, columns=block.rows, lines=(*block.lines, last))
    return Formula(turned, other.derivation)
