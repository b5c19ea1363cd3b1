"""The derivation of the two-layer network's mixed block, set down by hand: what the notations are
tried on."""

from fractions import Fraction

import pytest

from hesse.derivation.calculus.expression import (
    Apply,
    Delta,
    Entry,
    Expression,
    Factor,
    Group,
    Index,
    Kind,
    Partial,
    Power,
    Term,
    constant,
    of,
)
from hesse.derivation.calculus.program import Leaf, Program, Quantity
from hesse.derivation.derivation import Derivation
from hesse.derivation.lines.records import Block, Line, Slope

CURVATURE: Kind = "curvature from above"
PRODUCT: Kind = "product-rule term"


def term(
    *factors: Factor,
    number: Fraction | int = 1,
    over: tuple[Index, ...] = (),
    kind: Kind | None = None,
) -> Term:
    return Term(Fraction(number), factors, over, kind)


def total(*terms: Term) -> Expression:
    return Expression(terms)


def square(factor: Factor) -> Factor:
    return Power(factor, constant(2))


def two_layers(
    first: str = "W1", second: str = "W2", data: str = "x", deviation: float = 2.2e-16
) -> Derivation:
    """The example's derivation, under any names."""
    o, i, p, j = Index("o", "h"), Index("i", "d"), Index("p", "m"), Index("j", "h")
    W1, W2, x, y = Entry(first, (o, i)), Entry(second, (p, j)), Entry(data, (i,)), Entry("y", (p,))
    z2_o, z2_j, a2_j, z3, out, J = (
        Entry(name, at)
        for name, at in (
            ("z2", (o,)),
            ("z2", (j,)),
            ("a2", (j,)),
            ("z3", (p,)),
            ("ŷ", (p,)),
            ("J", ()),
        )
    )
    delta, S, gap = (
        Entry("δ3", (p,)),
        Entry("S3", (p,)),
        Group(total(term(y), term(out, number=-1))),
    )

    def f(order: int, at: Factor) -> Factor:
        return Apply("f", order, at)

    delta_is = total(term(gap, f(1, z3), number=-1))
    program = Program(
        {
            first: Leaf(first, ("h", "d"), "parameter"),
            second: Leaf(second, ("m", "h"), "parameter"),
            data: Leaf(data, ("d",)),
            "y": Leaf("y", ("m",)),
        },
        (
            Quantity("z2", (o,), total(term(W1, x, over=(i,))), "preactivation"),
            Quantity("a2", (j,), of(f(0, z2_j)), "activation"),
            Quantity("z3", (p,), total(term(W2, a2_j, over=(j,))), "preactivation"),
            Quantity("ŷ", (p,), of(f(0, z3)), "activation"),
            Quantity("δ3", (p,), delta_is, "delta", "how J feels z3"),
            Quantity(
                "S3",
                (p,),
                total(term(square(f(1, z3))), term(gap, f(2, z3), number=-1)),
                "curvature",
                "the curvature of J in z3",
            ),
            Quantity("J", (), total(term(square(gap), number=Fraction(1, 2), over=(p,))), "cost"),
        ),
        frozenset({"f"}),
    )
    start = Partial(Group(total(term(delta, a2_j))), (W1,))
    branch_a, branch_b = Partial(delta, (W1,)), Partial(a2_j, (W1,))
    moved = term(Entry(second, (p, o)), f(1, z2_o), x)
    slope_of_z2 = term(Delta(j, o), x)
    result = total(
        term(x, f(1, z2_o), S, Entry(second, (p, o)), a2_j, kind=CURVATURE),
        term(x, f(1, z2_j), delta, Delta(j, o), kind=PRODUCT),
    )
    lines = (
        Line(
            "1",
            "start",
            of(Partial(J, (W1, W2))),
            of(start),
            f"from ∂J/∂{second}; {first} stands in a2 and, through z3, in δ3",
        ),
        Line(
            "2",
            "product rule",
            of(start),
            total(term(branch_a, a2_j, kind=CURVATURE), term(delta, branch_b, kind=PRODUCT)),
            "each factor in turn",
            marks=("branch A", "branch B"),
        ),
        Line(
            "A1",
            "chain rule",
            of(branch_a),
            total(term(Partial(delta, (z3,)), Partial(z3, (W1,)))),
            f"δ3_p feels {first} only through z3_p",
        ),
        Line(
            "A2",
            "product rule",
            of(Partial(delta, (z3,))),
            total(term(square(f(1, z3))), term(gap, f(2, z3), number=-1)),
            "",
            S,
            ("ŷ moves", "the slope itself moves"),
        ),
        Line(
            "A3",
            "chain rule",
            of(Partial(z3, (W1,))),
            total(term(W2, branch_b, over=(j,))),
            f"z3 = {second} a2, and {second} is held fixed here",
        ),
        Line("B1", "chain rule", of(branch_b), total(term(f(1, z2_j), Partial(z2_j, (W1,))))),
        Line(
            "B2",
            "linear",
            of(Partial(z2_j, (W1,))),
            total(slope_of_z2),
            f"only row o of {first} touches z2_o",
        ),
        Line(
            "3", "put B into A3", of(Partial(z3, (W1,))), total(moved), "the sum over j keeps j = o"
        ),
        Line("4", "collect", of(Partial(J, (W1, W2))), result, "put the branches in"),
    )
    lines = tuple(Line(**{**line.__dict__, "deviation": deviation}) for line in lines)
    slope = Slope(
        W2,
        total(term(delta, a2_j)),
        (
            Line(
                "1",
                "chain rule",
                of(Partial(J, (z3,))),
                delta_is,
                "z3 acts on J through ŷ",
                delta,
                deviation=deviation,
            ),
            Line(
                "2",
                "chain rule",
                of(Partial(J, (W2,))),
                total(term(delta, a2_j)),
                f"{second} acts on J through z3",
            ),
        ),
    )
    return Derivation(
        f"1/2*sum((y - f({second} @ f({first} @ {data})))**2)",
        program,
        (first, second),
        {second: slope},
        {(first, second): Block(W1, W2, result, lines, 3e-15)},
    )


@pytest.fixture
def derivation() -> Derivation:
    return two_layers()
