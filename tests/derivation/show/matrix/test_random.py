"""Whatever is read as matrices has the value of the indices it was read from."""

from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from derivation.show.matrix.building import (
    LETTERS,
    at,
    delta,
    entry,
    group,
    power,
    program_of,
    term,
    total,
    valuation_of,
)
from hesse.derivation.calculus.expression import (
    Apply,
    Count,
    Expression,
    Factor,
    Index,
    Partial,
    Power,
    Term,
    freshen,
)
from hesse.derivation.calculus.normal_form import collect
from hesse.derivation.calculus.program import ArrayCall, Program, Quantity
from hesse.derivation.show.latex_writer import matrix_latex
from hesse.derivation.show.matrix import evaluate, matrix_form
from hesse.derivation.show.matrix.compose import transpose
from hesse.derivation.show.matrix.nodes import shape
from hesse.derivation.show.text_writer import matrix_text

# beartype looks at random items of what is drawn; hypothesis notices that the random state has
# moved.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module")

# Letters of one size can meet in a delta: o, j, q count h; i, k, l count d; p, r count m; a, b, c,
# e count the inverse's size.
GROUPS = [
    ("", ""),
    ("o", ""),
    ("oi", ""),
    ("", "pj"),
    ("o", "j"),
    ("p", "o"),
    ("oi", "p"),
    ("o", "pj"),
    ("oi", "pj"),
    ("oi", "qk"),
    ("pj", "rq"),
    ("ab", "ce"),
]
INVERSE = Quantity("inv(Q)", at("ab"), ArrayCall("inv", entry("Q", "ab")))
JACOBIAN = Quantity(
    "y", at("p"), total(term(entry("Y", "po"), Apply("f", 0, entry("x", "o")), over="o"))
)


def array(draw: st.DrawFn, letters: str) -> Factor:
    """An entry of an array that has one axis for each letter; its name says which."""
    sizes = "".join(str(LETTERS[letter]) for letter in letters)
    return entry(
        f"{draw(st.sampled_from('AB'))}{sizes}" if letters else draw(st.sampled_from(["s", "t"])),
        letters,
    )


@st.composite
def factors(draw: st.DrawFn, letters: str, deep: bool = True) -> Factor:
    """A factor over some of the letters."""
    some = draw(st.lists(st.sampled_from(letters), min_size=0, max_size=3)) if letters else []
    plain = array(draw, "".join(some))
    kind = draw(
        st.sampled_from(
            [
                "entry",
                "entry",
                "entry",
                "power",
                "apply",
                "delta",
                "group",
                "group",
                "inverse",
                "jacobian",
                "count",
                "root",
            ]
        )
    )
    match kind:
        case "power":
            return power(plain, draw(st.sampled_from([2, -1, 3])))
        case "root":
            return Power(
                plain,
                draw(
                    st.sampled_from([total(term(number=Fraction(1, 2))), total(term(entry("s")))])
                ),
            )
        case "apply":
            return Apply(draw(st.sampled_from(["f", "g", "tanh"])), draw(st.integers(0, 2)), plain)
        case "delta":
            pairs = [a + b for a in letters for b in letters if a != b and LETTERS[a] == LETTERS[b]]
            return delta(draw(st.sampled_from(pairs))) if pairs else plain
        case "inverse" if len(set(letters) & set("abce")) >= 2:
            mine = [letter for letter in letters if letter in "abce"]
            return entry(
                "inv(Q)", "".join(draw(st.lists(st.sampled_from(mine), min_size=2, max_size=2)))
            )
        case "jacobian" if set(letters) & set("pr") and set(letters) & set("ojq"):
            top, bottom = (
                draw(st.sampled_from([x for x in letters if x in among])) for among in ("pr", "ojq")
            )
            return Partial(entry("y", top), (entry("x", bottom),))
        case "count":
            return draw(st.sampled_from([Count("N"), power(Count("d"), -1)]))
        case "group" if deep:
            inner = draw(
                st.lists(
                    terms(
                        "".join(draw(st.permutations(letters))[:2]) if letters else "", deep=False
                    ),
                    min_size=1,
                    max_size=3,
                )
            )
            body = group(*inner)
            return draw(st.sampled_from([body, body, power(body, 2), Apply("f", 1, body)]))
        case _:
            return plain


@st.composite
def terms(draw: st.DrawFn, free: str, deep: bool = True) -> Term:
    """A term over some free indices and a few that it sums over."""
    others = [letter for letter in "nikopjsbc" if letter not in free] if deep else ["l", "t"]
    bound = "".join(draw(st.lists(st.sampled_from(others), unique=True, max_size=3 if deep else 1)))
    made = draw(st.lists(factors(free + bound, deep), min_size=0, max_size=5 if deep else 3))
    number = draw(st.sampled_from([1, -1, 2, Fraction(-1, 2), 3]))
    return term(*made, number=number, over=bound)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Expression, str, str]:
    rows, columns = draw(st.sampled_from(GROUPS))
    return total(*draw(st.lists(terms(rows + columns), min_size=1, max_size=3))), rows, columns


def program_for(expression: Expression) -> Program:
    return program_of(total(*expression.terms, term(entry("x", "o"))), (INVERSE, JACOBIAN))


def check(expression: Expression, rows: str, columns: str) -> bool:
    """Whether an expression is read; if so, both notations are written and the value is right."""
    program = program_for(expression)
    groups: tuple[tuple[Index, ...], tuple[Index, ...]] = at(rows), at(columns)
    node = matrix_form(expression, *groups, program)
    if node is None:
        return False
    assert matrix_text(node) and matrix_latex(node).isascii()
    assert shape(node) == tuple(tuple(index.size for index in one) for one in groups)
    valuation = valuation_of(program)
    apart = total(*(freshen(part, rows + columns) for part in expression.terms))
    expected = valuation.array(apart, at(rows + columns))
    found = evaluate(node, valuation)
    torch.testing.assert_close(
        found.reshape(expected.shape),
        expected,
        rtol=1e-9,
        atol=1e-9,
        msg=lambda text: f"{matrix_text(node)}: {text}",
    )
    torch.testing.assert_close(evaluate(transpose(node), valuation), found.T, rtol=1e-9, atol=1e-9)
    return True


@settings(deadline=None, max_examples=40)
@given(problems())
def test_a_form_has_the_value_of_the_indices(problem: tuple[Expression, str, str]) -> None:
    check(*problem)


@settings(deadline=None, max_examples=15)
@given(problems())
def test_and_so_has_the_form_of_what_was_simplified(problem: tuple[Expression, str, str]) -> None:
    expression, rows, columns = problem
    check(collect(expression), rows, columns)


@settings(deadline=None, max_examples=40)
@given(st.data(), st.sampled_from([group for group in GROUPS if len(group[0] + group[1]) > 2]))
def test_every_product_of_matrices_and_vectors_is_read(
    data: st.DataObject, groups: tuple[str, str]
) -> None:
    rows, columns = groups
    letters = rows + columns + "nt"
    pairs = data.draw(
        st.lists(st.lists(st.sampled_from(letters), min_size=1, max_size=2), min_size=1, max_size=6)
    )
    made = [array(data.draw, "".join(pair)) for pair in pairs]  # pyright: ignore[reportArgumentType]
    assert check(total(term(*made, over="nt")), rows, columns)


@settings(deadline=None, max_examples=20)
@given(st.data(), st.sampled_from([("oi", "pj"), ("oi", "pr"), ("oi", ""), ("", ""), ("o", "pj")]))
def test_pairs_of_indices_as_one(data: st.DataObject, groups: tuple[str, str]) -> None:
    """Arrays of three and four indices, as the layers of a convolutional network make them."""
    rows, columns = groups
    units = [
        *([rows] if len(rows) == 2 else rows),
        *([columns] if len(columns) == 2 else columns),
        "nk",
        "st",
        "l",
    ]
    chosen = data.draw(
        st.lists(st.lists(st.sampled_from(units), min_size=1, max_size=2), min_size=1, max_size=4)
    )
    made = [array(data.draw, "".join(units)) for units in chosen]  # pyright: ignore[reportArgumentType]
    if data.draw(st.booleans()):
        made.append(Apply("f", 1, made[0]))
    check(total(term(*made, over="nkstl")), rows, columns)


@settings(deadline=None, max_examples=15)
@given(st.permutations("nab"), st.sampled_from([("a", "b"), ("b", "a"), ("a", ""), ("", "")]))
def test_the_inverse_of_each_of_many_matrices(order: list[str], groups: tuple[str, str]) -> None:
    rows, columns = groups
    batch = Quantity("inv(R)", at("cae"), ArrayCall("inv", entry("R", "cae")))
    # All three axes have one size, so that any of them may stand anywhere.
    names = dict(zip("nab", "cae", strict=True))
    letters = "".join(names[letter] for letter in order)
    rows, columns = ("".join(names[letter] for letter in group) for group in groups)
    expression = total(
        term(
            entry("inv(R)", letters),
            entry("w", "c"),
            over="".join(x for x in "cae" if x not in rows + columns),
        )
    )
    program = program_of(total(*expression.terms), (batch,))
    node = matrix_form(expression, at(rows), at(columns), program)
    assert node is not None
    valuation = valuation_of(program)
    expected = valuation.array(expression, at(rows + columns))
    torch.testing.assert_close(
        evaluate(node, valuation).reshape(expected.shape), expected, rtol=1e-9, atol=1e-9
    )
