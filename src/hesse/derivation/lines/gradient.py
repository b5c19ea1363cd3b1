"""A first derivative as it is asked for: with its signal written out, where there is one."""

from hesse.derivation.calculus.algebra import written_out
from hesse.derivation.calculus.expression import Expression, Index, Partial, kept
from hesse.derivation.calculus.facts import facts
from hesse.derivation.calculus.normal_form import simplify, weight
from hesse.derivation.calculus.program import Program, Quantity, mentioned
from hesse.derivation.lines.adjoints import LONG
from hesse.derivation.lines.letters import Letters
from hesse.derivation.lines.page import in_reading_order
from hesse.derivation.lines.records import Derived, Line, Slope, numbered
from hesse.derivation.lines.substitution import substituted


def gradient(program: Program, slope: Slope) -> tuple[Derived, Program]:
    """∂J/∂parameter, and the program with the names that it needed.

    Σ_n (p_n − y_n) X[n,i] rather than Σ_n δz_n X[n,i]: a δ that stands on no other is written out.
    """
    left = Partial(program.cost.entry, (slope.parameter,))
    expression, lines = slope.expression, slope.lines
    signal = _only_signal(program, expression)
    if signal is not None and isinstance(signal.definition, Expression):
        free = slope.parameter.indices
        put = written_out(expression, signal.entry, kept(signal.definition))
        known = substituted(put, program)
        if known is not None:
            put, program = known.expression, known.program
        put = _nice(put, program, free)
        label = str(numbered(lines) + 1)
        why = f"{signal.name} written out"
        lines = (*lines, Line(label, "put in", expression, put, why))
        expression = put
    return (
        Derived("the first derivative", "gradient", left, (slope.parameter,), expression, lines),
        program,
    )


def _only_signal(program: Program, expression: Expression) -> Quantity | None:
    """The δ that an expression stands on, where that is a single short one."""
    named = [program.by_name[name] for name in mentioned(expression) if name in program.by_name]
    signals = [quantity for quantity in named if quantity.role == "delta"]
    if len(signals) != 1 or weight(signals[0].definition) > LONG:  # pyright: ignore[reportArgumentType]
        return None
    below = (program.by_name[name].role for name in signals[0].mentions if name in program.by_name)
    return None if "delta" in below else signals[0]


def _nice(expression: Expression, program: Program, free: tuple[Index, ...]) -> Expression:
    simple = simplify(expression, facts(program), free)
    return Letters(program).nice(in_reading_order(simple, free), free)
