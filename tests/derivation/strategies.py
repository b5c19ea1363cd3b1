"""Random costs: trees of any form, for printing and reading, and trees whose shapes fit and whose
values are moderate."""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from derivation.expressions import Case
from hesse.derivation.sources.language.tree import (
    Binary,
    Negative,
    Number,
    Symbol,
    Transpose,
    Tree,
    symbols,
    unparse,
)
from hesse.derivation.sources.language.tree import (
    FunctionCall as Call,
)
from hesse.derivation.sources.language.vocabulary import along_an_axis, elementwise

Shape = tuple[str, ...]

DECLARED: dict[str, Shape] = {
    "a": (),
    "c": (),
    "x": ("n",),
    "y": ("n",),
    "u": ("m",),
    "A": ("n", "m"),
    "B": ("m", "n"),
    "S": ("n", "n"),
    "W": ("m", "m"),
}
SMOOTH = ("tanh", "sin", "cos", "sigmoid", "softplus", "erf", "gelu", "silu", "f", "g")
_OTHER = {"n": "m", "m": "n"}


def numbers() -> st.SearchStrategy[Number]:
    """Numbers as they can be written: not negative, with finitely many digits."""
    return st.builds(
        lambda digits, places: Number(Fraction(digits, 10**places)),
        st.integers(0, 999),
        st.integers(0, 3),
    )


def trees() -> st.SearchStrategy[Tree]:
    """Trees of any form, whether or not their shapes fit."""
    leaves = st.one_of(numbers(), st.sampled_from(["x", "W1", "θ", "n_2"]).map(Symbol))
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.builds(Negative, inner),
            st.builds(Transpose, inner),
            st.builds(Binary, st.sampled_from(["+", "-", "*", "/", "**", "@"]), inner, inner),
            st.builds(
                Call, st.sampled_from(["f", "sigma_1", "inv", *sorted(elementwise())]), inner
            ),
            st.builds(
                Call,
                st.sampled_from(sorted(along_an_axis())),
                inner,
                st.sampled_from([None, 0, 1, -1]),
            ),
        ),
        max_leaves=12,
    )


@st.composite
def shaped(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    """A tree of a shape, at most so deep, whose value and derivatives stay moderate."""
    leaves: list[Tree] = [Symbol(name) for name, declared in DECLARED.items() if declared == shape]
    if not shape:
        leaves += [Number(Fraction(1, 2)), Number(Fraction(2))]
    if depth <= 1:
        return draw(st.sampled_from(leaves)) if leaves else Transpose(draw(shaped(shape[::-1], 0)))
    forms = [form for form, of in _FORMS if of(shape)]
    return draw(st.sampled_from(forms))(draw, shape, depth - 1)


Form = Callable[[st.DrawFn, Shape, int], Tree]
_ONE, _TWO = Number(Fraction(1)), Number(Fraction(2))


def _leaf(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return draw(shaped(shape, 1))


def _negative(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return Negative(draw(shaped(shape, depth)))


def _binary(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    """One side may have fewer axes: it is repeated."""
    narrow = shape[draw(st.integers(0, len(shape))) :]
    wide, repeated = draw(shaped(shape, depth)), draw(shaped(narrow, depth))
    left, right = (wide, repeated) if draw(st.booleans()) else (repeated, wide)
    return Binary(draw(st.sampled_from(["+", "-", "*"])), left, right)


def _quotient(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    below = Binary("+", _ONE, Binary("**", draw(shaped((), max(1, depth - 2))), _TWO))
    return Binary("/", draw(shaped(shape, depth)), below)


def _power(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    base, exponent = draw(shaped(shape, min(depth, 3))), draw(st.sampled_from([2, 3]))
    # Beside a matrix product a power of a matrix is refused, for it could be meant of the matrix.
    if len(shape) == 2:
        square = Binary("*", base, base)
        return square if exponent == 2 else Binary("*", square, base)
    return Binary("**", base, Number(Fraction(exponent)))


def _positive(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    square = Binary("**", draw(shaped(shape, max(1, depth - 2))), _TWO)
    return Call(draw(st.sampled_from(["log", "sqrt"])), Binary("+", _ONE, square))


def _function(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return Call(draw(st.sampled_from(SMOOTH)), draw(shaped(shape, depth)))


def _reduction(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    inside = draw(st.sampled_from([("n",), ("n", "m"), ("m", "n")]))
    return Call(draw(st.sampled_from(["sum", "mean"])), draw(shaped(inside, depth)))


def _trace(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return Call("trace", draw(shaped(("n", "n"), depth)))


def _along(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    other = _OTHER[shape[0]]
    axis = draw(st.sampled_from([0, 1]))
    inside = (other, shape[0]) if axis == 0 else (shape[0], other)
    return Call(
        draw(st.sampled_from(["sum", "mean", "logsumexp"])), draw(shaped(inside, depth)), axis
    )


def _centred(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    """An array twice, once in a sum over other indices than its own."""
    array = draw(shaped(shape, max(1, depth - 1)))
    return Binary("-", array, Call("mean", array))


def _softmax(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return Call(draw(st.sampled_from(["softmax", "log_softmax"])), draw(shaped(shape, depth)))


def _inner(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    k = draw(st.sampled_from(["n", "m"]))
    return Binary("@", draw(shaped((k,), depth)), draw(shaped((k,), depth)))


def _image(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    k = draw(st.sampled_from(["n", "m"]))
    if draw(st.booleans()):
        return Binary("@", draw(shaped((*shape, k), depth)), draw(shaped((k,), depth)))
    return Binary("@", draw(shaped((k,), depth)), draw(shaped((k, *shape), depth)))


def _product(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    k = draw(st.sampled_from(["n", "m"]))
    return Binary("@", draw(shaped((shape[0], k), depth)), draw(shaped((k, shape[1]), depth)))


def _transpose(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    return Transpose(draw(shaped(shape[::-1], depth)))


def _inverse(draw: st.DrawFn, shape: Shape, depth: int) -> Tree:
    size = shape[0]
    root = draw(shaped((size, size), max(1, depth - 3)))
    return Call("inv", Binary("+", Call("eye", Symbol(size)), Binary("@", Transpose(root), root)))


def _always(shape: Shape) -> bool:
    return True


_FORMS: tuple[tuple[Form, Callable[[Shape], bool]], ...] = (
    (_leaf, _always),
    (_negative, _always),
    (_binary, _always),
    (_quotient, _always),
    (_power, _always),
    (_positive, _always),
    (_function, _always),
    (_reduction, lambda shape: len(shape) == 0),
    (_trace, lambda shape: len(shape) == 0),
    (_inner, lambda shape: len(shape) == 0),
    (_image, lambda shape: len(shape) == 1),
    (_along, lambda shape: len(shape) == 1),
    (_softmax, lambda shape: len(shape) >= 1),
    (_centred, lambda shape: len(shape) >= 1),
    (_product, lambda shape: len(shape) == 2),
    (_transpose, lambda shape: len(shape) == 2),
    (_inverse, lambda shape: len(shape) == 2 and shape[0] == shape[1]),
)


@dataclass(frozen=True)
class Drawn:
    """A tree, and which of its names are parameters. The text is made outside of the strategy:
    checked annotations draw random numbers of their own, which a strategy must not."""

    tree: Tree
    picks: tuple[int, ...]

    @property
    def case(self) -> Case:
        occurring = [name for name in symbols(self.tree) if name in DECLARED] or ["x"]
        wrt = dict.fromkeys(occurring[pick % len(occurring)] for pick in self.picks)
        text = unparse(self.tree)
        return Case(
            text,
            text,
            " ".join(wrt),
            " ".join(f"{name}[{','.join(DECLARED[name])}]" for name in occurring),
        )


def costs(depth: int = 5) -> st.SearchStrategy[Drawn]:
    """Costs whose shapes fit, with one or two of their names as parameters."""
    return st.builds(Drawn, shaped((), depth), st.tuples(st.integers(0, 8), st.integers(0, 8)))
