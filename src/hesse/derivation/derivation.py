"""A derivation: its lines, and what can be asked of it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from hesse.derivation.calculus.expression import Expression, Partial, of
from hesse.derivation.calculus.program import Program
from hesse.derivation.calculus.samples import CostArrays
from hesse.derivation.check.certification import certified, certified_somewhere
from hesse.derivation.check.point import with_random_leaves
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.code.binding import shape_text
from hesse.derivation.convexity.verdict import Convexity, convexity
from hesse.derivation.formula import BlockFormula, Formula, formula_of_block
from hesse.derivation.hessian import DerivedHessian
from hesse.derivation.lines.gradient import gradient
from hesse.derivation.lines.hessian_product import product, with_directions
from hesse.derivation.lines.records import (
    Block,
    Certificate,
    Derived,
    Line,
    Record,
    Slope,
    numbered,
)
from hesse.derivation.lines.third_derivative import third_derivative
from hesse.display import Display, Displayed, facts
from hesse.errors import HesseKeyError, HesseTypeError, HesseValueError, nearest, require_flags
from hesse.words import ReadingName


@dataclass(frozen=True, repr=False)
class Derivation(Displayed, Record):
    """The derivation of a Hessian: every line with its rule, every line certified.

    Made by `hesse.derive`. ``print`` shows all of it; its name by itself, what each block
    came to.

    Attributes:
        source, program, parameters, slopes, blocks, stages, notes, certificate, functions: as in
            `hesse.derivation.lines.records.Record`.
        at: the point at which everything was certified.
        cost_arrays: the parameters and the data of a cost that was derived.
    """

    # Writes a block that is not there yet, and the program with the names it needed.
    _writer: Callable[[str, str], tuple[Block, Program]] | None = field(default=None, compare=False)
    at: Valuation | None = field(default=None, compare=False)
    cost_arrays: CostArrays | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return self.text()

    def _display(self) -> Display:
        from hesse.derivation.show import screen

        first, last = self.parameters[0], self.parameters[-1]
        one = f'("{first}")' if self.program.cost.indices else f'("{first}", "{last}")'
        name = "jacobian" if self.program.cost.indices else "block"
        order = "second" if self.blocks else "first"
        return Display(
            "Derivation",
            f"{order} derivatives of {self.source or self.program.cost.name}",
            (*screen.results(self), *facts(checked=str(self.certificate or ""))),
            next=("print(d) for all lines", f"d.{name}{one}", "d.html()", "d.latex()"),
        )

    def block(self, rows: str, columns: str) -> BlockFormula:
        """The formula of one block, ∂²J/∂rows ∂columns.

        The one with the two exchanged is its transpose, with one line more that says so.

        Raises:
            HesseKeyError: a name that is not a parameter of this derivation.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("x @ A @ x", wrt=["x"])
            >>> print(d.block("x", "x").matrix())
            A + Aᵀ
        """
        return _block(self, rows, columns)

    def gradient(self, parameter: str) -> Formula:
        """The formula of a first derivative, ∂J/∂parameter.

        Raises:
            HesseKeyError: the name is not a parameter of this derivation.
            HesseValueError: a vector was derived.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("1/2*sum((y - X @ w)**2)", wrt=["w"])
            >>> d.gradient("w").evaluate(X=[[1.0], [2.0]], y=[1.0, 1.0], w=[1.0])
            array([2.])
        """
        self._require_parameter(parameter, "gradient")
        if self.program.cost.indices:
            raise HesseValueError(
                f"gradient: a vector was derived; its first derivative is jacobian({parameter!r})"
            )
        derived, program = gradient(self.program, self.slopes[parameter])
        return self._formula(derived, program)

    def jacobian(self, parameter: str) -> Formula:
        """The formula of the derivatives of a vector, ∂f/∂parameter, of shape (*f.shape,
        *parameter.shape).

        Raises:
            HesseKeyError: the name is not a parameter of this derivation.
            HesseValueError: a cost was derived.

        Examples:
            >>> import hesse
            >>> print(hesse.derive("A @ x", wrt="x").jacobian("x").matrix())
            A
        """
        self._require_parameter(parameter, "jacobian")
        vector = self.program.cost.entry
        if not vector.indices:
            raise HesseValueError(
                f"jacobian: a cost was derived; its first derivative is gradient({parameter!r})"
            )
        slope = self.slopes[parameter]
        left, entries = Partial(vector, (slope.parameter,)), (vector, slope.parameter)
        return Formula(
            Derived("the Jacobian", "jacobian", left, entries, slope.expression, slope.lines), self
        )

    @property
    def formulas(self) -> list[Formula]:
        """The formula of every block that was derived; of a vector, every Jacobian.

        Examples:
            >>> import hesse
            >>> [f.derived.name for f in hesse.derive("A @ x", wrt="x").formulas]
            ['the Jacobian']
        """
        blocks: list[Formula] = [self.block(*pair) for pair in self.blocks]
        return blocks or [self.jacobian(name) for name in self.parameters]

    def hessian(self) -> DerivedHessian:
        """All blocks as one matrix.

        Raises:
            HesseValueError: a vector was derived.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("a*b**2", wrt=["a", "b"])
            >>> d.hessian().evaluate(a=2.0, b=3.0).shape
            (2, 2)
        """
        self._require_cost("hessian")
        return DerivedHessian(self)

    def product(self, parameter: str) -> Formula:
        """The product H v as a formula, at one parameter: (H v)_a = Σ_b H[a, b] v_b.

        The vector is called ``v``; where there are several parameters it has a part for each,
        ``v_W1`` beside ``W1``. No block is made on the way.

        Raises:
            HesseKeyError: the name is not a parameter of this derivation.
            HesseValueError: a vector was derived.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("1/2*sum((y - X @ w)**2)", wrt=["w"])
            >>> d.product("w").evaluate(X=[[1.0], [2.0]], v=[3.0])
            array([15.])
        """
        self._require_parameter(parameter, "product")
        self._require_cost("product")
        blocks, derivation = [], self
        for other in self.parameters:
            formula = _block(derivation, parameter, other)
            # Each block that was not there brings the names that it needed.
            blocks.append(formula.block)
            derivation = formula.derivation
        program, directions = with_directions(derivation.program, self.parameters)
        return self._formula(product(program, blocks, directions), program)

    def third(self, rows: str, columns: str, more: str) -> Formula:
        """The formula of third derivatives, ∂³J/∂rows ∂columns ∂more, of shape (*rows.shape,
        *columns.shape, *more.shape).

        Raises:
            HesseKeyError: a name is not a parameter of this derivation.
            HesseValueError: a vector was derived, a line is too long to be read, or the derivative
                goes through a map without a formula.

        Examples:
            >>> import hesse
            >>> hesse.derive("sum(exp(x))", wrt="x").third("x", "x", "x").evaluate(x=[0.0])
            array([[[1.]]])
        """
        self._require_parameter(more, "third")
        block = _block(self, rows, columns)
        derived, program = third_derivative(block.derivation.program, block.block, more)
        return self._formula(derived, program)

    def convexity(self, parameter: str | None = None) -> Convexity:
        """Whether the cost is convex in a parameter, all else held, and what shows it.

        Args:
            parameter: its name; by default the only one.

        Raises:
            HesseKeyError: the name is not a parameter of this derivation.
            HesseValueError: there are several parameters and none was named, or a vector was
                derived.

        Examples:
            >>> import hesse
            >>> hesse.derive("sum(softplus(X @ w))", wrt="w").convexity().verdict
            'convex'
        """
        if parameter is None:
            names = self.parameters
            if len(names) != 1:
                raise HesseValueError(
                    f"convexity: name the parameter, all others held: one of {', '.join(names)}"
                )
            parameter = names[0]
        self._require_parameter(parameter, "convexity")
        formula = _block(self, parameter, parameter)
        return convexity(formula.derivation, formula.block)

    def _formula(self, derived: Derived, program: Program) -> Formula:
        """What was asked for beside blocks, certified where they are."""
        alone = replace(self, program=program, slopes={}, stages=(), blocks={})
        if self.at is not None:
            entry, *_ = derived.entries
            slope = Slope(entry, derived.expression, derived.lines)
            checked = replace(alone, slopes={entry.name: slope})
            checked = certified(checked, with_random_leaves(self.at, program))
            derived = replace(derived, lines=checked.slopes[entry.name].lines)
        return Formula(derived, alone)

    def _require_cost(self, asked: str) -> None:
        if self.program.cost.indices:
            raise HesseValueError(
                f"{asked}: a vector was derived, of shape"
                f" {shape_text(self.program.shape(self.program.cost.name))}, and only a cost, which"
                " is a scalar, has a Hessian; derive sum(...) or mean(...) of it"
            )

    def _require_parameter(self, name: str, asked: str) -> None:
        if not isinstance(name, str):
            raise HesseTypeError(f"{asked}: expected the name of a parameter; got {name!r}")
        if name not in self.parameters:
            close = nearest(name, list(self.parameters))
            raise HesseKeyError(
                f"{asked}: {name!r} is not a parameter of this derivation; the nearest: {close}"
            )

    def steps(self, rows: str, columns: str) -> tuple[Line, ...]:
        """The lines of one block: rule, before, after, reason.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", wrt=["W1", "W2"])
            >>> [line.rule for line in d.steps("W1", "W2")][:3]
            ['start', 'product rule', 'chain rule']
        """
        return self.block(rows, columns).lines

    def text(self, reading: ReadingName | str = "indices") -> str:
        """The whole derivation as text, at most 100 columns wide.

        Args:
            reading: ``"indices"``, ``"matrix"``, or ``"scalar"``: one weight per layer.
        """
        from hesse.derivation.show import text

        return text.page(self, reading)

    def write(self, expression: Expression, reading: ReadingName | str = "indices") -> str:
        """One expression of this derivation, such as a side of a line, as text on one line.

        Examples:
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

    def html(self, *, page: bool = True) -> str:
        """One self-contained page: MathML, steps that unfold, light and dark; nothing is loaded
        from elsewhere.

        Args:
            page: whether it is a file of its own, or a part of a page, as a notebook shows with
                ``IPython.display.HTML``.

        Raises:
            HesseImportError: the extra ``html`` is not installed.
        """
        from hesse.derivation.show import html

        require_flags(page=page)
        return html.page(self) if page else html.fragment(self)

    def certify(self, seed: int = 0) -> Certificate:
        """Check every line again, at other random points.

        Args:
            seed: of the points, a whole number from 0 on.

        Raises:
            HesseValueError: a line is wrong; the text names it.

        Examples:
            >>> import hesse
            >>> d = hesse.derive("sum(exp(A @ x))", wrt=["A", "x"])
            >>> d.certify(seed=1).deviation < 1e-10
            True
        """
        if type(seed) is not int or not 0 <= seed <= 2**62:
            kind = HesseValueError if type(seed) is int else HesseTypeError
            raise kind(f"seed: expected a whole number from 0 to 2**62, got {seed!r}")
        certificate = certified_somewhere(self, seed)[0].certificate
        assert certificate is not None
        return certificate


def _block(derivation: Derivation, rows: str, columns: str) -> BlockFormula:
    """A block of a derivation, written now where it is not there yet."""
    for name in (rows, columns):
        derivation._require_parameter(name, "block")
    derivation._require_cost("block")
    order = derivation.parameters.index
    if order(rows) > order(columns):
        return _transposed(_block(derivation, columns, rows))
    if (rows, columns) not in derivation.blocks:
        derivation = _with_block(derivation, rows, columns)
    return formula_of_block(derivation.blocks[rows, columns], derivation)


def _with_block(derivation: Derivation, rows: str, columns: str) -> Derivation:
    """The derivation with one more block, certified at the same point as the others."""
    assert derivation._writer is not None, "a derivation without a writer has all its blocks"
    block, program = derivation._writer(rows, columns)
    alone = replace(
        derivation, program=program, slopes={}, stages=(), blocks={(rows, columns): block}
    )
    if derivation.at is not None:
        alone = certified(alone, derivation.at.extended(alone.program))
    return replace(derivation, program=alone.program, blocks={**derivation.blocks, **alone.blocks})


def _transposed(other: BlockFormula) -> BlockFormula:
    block = other.block
    cost = other.derivation.program.cost.entry
    last = Line(
        str(numbered(block.lines) + 1),
        "symmetry",
        of(Partial(cost, (block.columns, block.rows))),
        block.expression,
        "the order of differentiation does not matter: the transpose of the block above",
        deviation=block.deviation,
    )
    turned = replace(block, rows=block.columns, columns=block.rows, lines=(*block.lines, last))
    return formula_of_block(turned, other.derivation)
