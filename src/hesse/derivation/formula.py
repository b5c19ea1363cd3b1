"""A formula of a derivation: to read, to print, to run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from hesse.derivation.calculus.expression import Entry, Expression, Index, Partial, of
from hesse.derivation.lines.records import Block, Derived, Line
from hesse.display import Display, Displayed
from hesse.process.progress import Progress
from hesse.words import BackendName, ReadingName

if TYPE_CHECKING:
    from hesse.derivation.code.python import Source
    from hesse.derivation.derivation import Derivation


@dataclass(frozen=True, repr=False)
class Formula(Displayed):
    """What a derivation comes to in one place: a first derivative, a block, a product H v, or
    derivatives of a vector.

    Attributes:
        derived: what it is the formula of, the expression and its lines.
        derivation: what it belongs to.
    """

    derived: Derived
    derivation: "Derivation"

    @property
    def expression(self) -> Expression:
        """The collected result, in the indices of its entries."""
        return self.derived.expression

    @property
    def lines(self) -> tuple[Line, ...]:
        """Those that lead to the result."""
        return self.derived.lines

    @property
    def indices(self) -> tuple[Index, ...]:
        """The axes of the array."""
        return tuple(index for entry in self.derived.entries for index in entry.indices)

    @property
    def _part(self) -> Block | Derived:
        """What is written of it."""
        return self.derived

    def __str__(self) -> str:
        return self.text()

    def _display(self) -> Display:
        from hesse.derivation.show import screen

        return Display(
            "Formula",
            f"{self.derived.name}, in {len(self.lines)} lines",
            screen.result(self._part, self.derivation),
            next=(
                "print(f) for all lines",
                "f.matrix()",
                "f.python()",
                "f.evaluate()",
                "f.latex()",
            ),
        )

    def text(self, reading: ReadingName | str = "indices") -> str:
        """The lines and the result as text, at most 100 columns wide; ``reading`` as in
        `Derivation.text`."""
        from hesse.derivation.show import text

        return text.part_text(self._part, self.derivation, reading)

    def latex(self, reading: ReadingName | str = "indices") -> str:
        """The result as LaTeX, to be put between dollar signs."""
        from hesse.derivation.show import latex

        return latex.part_latex(self._part, self.derivation, reading)

    def html(self) -> str:
        """The formula as one self-contained page, as `Derivation.html`.

        Raises:
            HesseImportError: the extra ``html`` is not installed.

        Examples:
            >>> import hesse
            >>> page = hesse.derive("x @ A @ x", wrt=["x"]).gradient("x").html()
            >>> "The first derivative" in page
            True
        """
        from hesse.derivation.show import html

        return html.page(self.alone)

    @property
    def alone(self) -> "Derivation":
        """The derivation with this formula as its only part."""
        alone = replace(self.derivation, slopes={}, stages=(), blocks={})
        return replace(alone, derived=(self.derived,))

    def matrix(self) -> str | None:
        """The result as a product of matrices, rows and columns counted row by row; None where it
        has no such form."""
        from hesse.derivation.show.matrices import Forms
        from hesse.derivation.show.text_writer import TextWriter

        program = self.derivation.program
        rows, columns, *more = (*self.derived.entries, None)
        if any(more):
            return None
        form = Forms(program).whole(self.expression, rows, columns)
        return None if form is None else TextWriter(program).write(form)

    def python(self, backend: BackendName | str = "numpy", name: str | None = None) -> str:
        """A standalone function of the leaves, with named intermediates and the formula in its
        docstring.

        A function without a row in the table of functions, such as ``f``, is an argument, and so
        are its derivatives.

        Args:
            backend: ``"numpy"``, ``"torch"`` or ``"jax"``.
            name: of the function; by default ``hessian_block``, ``gradient``, ...

        Raises:
            HesseValueError: the formula needs an operation of a model that has no formula.

        Examples:
            >>> import hesse
            >>> code = hesse.derive("x @ A @ x", wrt=["x"]).block("x", "x").python()
            >>> "def " in code and "import numpy" in code
            True
        """
        source = self.source(backend, self.derived.function if name is None else name)
        return f"{source.imports}\n\n\n{source.definition}"

    def source(self, backend: str, name: str) -> "Source":
        """The same in its parts."""
        from hesse.derivation.code.python import source_of
        from hesse.derivation.show.text_writer import text

        program = self.derivation.program
        formula = f"{text(of(self.derived.left), program)} = {text(self.expression, program)}"
        return source_of(
            self.expression, program, backend, name, free=self.indices, formula=formula
        )

    def evaluate(self, **arrays: Any) -> Any:
        """The array at given leaves, with the axes of its entries: a block has shape (*rows.shape,
        *columns.shape), a first derivative that of its parameter.

        Of a `Cost` that was derived, what is not given is its own: ``evaluate()`` is the block at
        its parameters, over all its samples, in float64 and without its penalty.

        Args:
            **arrays: NumPy arrays, which give a NumPy array, or tensors, which give a tensor. For a
                network, ``x`` and ``y`` with one more axis in front hold samples, and the block is
                that of their sum or mean. An unknown function is the name of a known one,
                ``f="tanh"``, or its derivatives (f, f', f'').

        Examples:
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
            if leaf.role in ("data", "constant") and name in arrays
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


@dataclass(frozen=True, repr=False)
class BlockFormula(Formula):
    """∂²J/∂rows ∂columns, of shape (*rows.shape, *columns.shape).

    Attributes:
        block: rows, columns, the expression and its lines.
    """

    block: Block

    @property
    def _part(self) -> Block | Derived:
        return self.block

    @property
    def rows(self) -> Entry:
        """The parameter of the first axes, with its indices."""
        return self.block.rows

    @property
    def columns(self) -> Entry:
        """The parameter of the last axes, with its indices."""
        return self.block.columns

    @property
    def alone(self) -> "Derivation":
        """The derivation with this block as its only one."""
        key = (self.rows.name, self.columns.name)
        return replace(self.derivation, blocks={key: self.block}, stages=())


def formula_of_block(block: Block, derivation: "Derivation") -> BlockFormula:
    """A block as a formula of its derivation."""
    sides = (block.rows, block.columns)
    left = Partial(derivation.program.cost.entry, sides)
    derived = Derived("a block", "hessian_block", left, sides, block.expression, block.lines)
    return BlockFormula(derived, derivation, block)


def _alike(own: Mapping[str, Tensor], given: Mapping[str, Any]) -> Mapping[str, Any]:
    """A cost's own tensors as arrays of the kind that was given."""
    if not given or any(isinstance(value, Tensor) for value in given.values()):
        return own
    return {name: value.cpu().numpy() for name, value in own.items()}
