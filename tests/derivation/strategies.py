"""Random costs: trees of any form, for printing and reading, and texts whose shapes fit and whose
values are moderate."""

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from hypothesis import strategies as st

from derivation.expressions import Case
from hesse.derivation.sources.language.tree import Binary, Negative, Number, Symbol, Transpose, Tree
from hesse.derivation.sources.language.tree import FunctionCall as Call
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
_OTHER = {"n": "m", "m": "n"}
# Of each entry: {} is an argument, which is anything.
_SMOOTH = (
    *("tanh", "sin", "cos", "sigmoid", "softplus", "erf", "gelu", "silu", "f", "g"),
    *("arctan", "asinh", "erfc", "normcdf", "normpdf", "exp(-({})**2)", "log1p(({})**2)"),
    *("lgamma(1 + ({})**2)", "digamma(1 + ({})**2)", "expm1(sin({}))", "cosh(sin({}))"),
    *("sinh(cos({}))", "tan(sin({}))", "asin(sin({})/2)", "atanh(tanh({})/2)"),
)
_KINKS = (
    *("relu", "abs", "maximum({}, 1/2)", "minimum({}, 0)", "clip({}, -1, 1)", "huber"),
    *("huber({}, 1/2)", "where({0} > 1/3, {0}, 2*{0})", "max(0, {})"),
)


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
def shaped(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """The text of an array of a shape, at most so deep, whose value and derivatives stay moderate;
    every part of it in parentheses."""
    leaves = [name for name, declared in DECLARED.items() if declared == shape]
    if not shape:
        leaves += ["1/2", "2"]
    if shape == ("n-1",):
        leaves = ["x[1:]", "y[:-1]", "diff(x)"]
    if shape == ("n*m",):
        leaves = ["kron(x, u)"]
    if depth <= 1:
        return f"({draw(st.sampled_from(leaves))})"
    forms = [form for form, of in _FORMS if of(shape)]
    return f"({draw(st.sampled_from(forms))(draw, shape, depth - 1)})"


Form = Callable[[st.DrawFn, Shape, int], str]


def _leaf(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return draw(shaped(shape, 1))


def _negative(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"-{draw(shaped(shape, depth))}"


def _binary(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """One side may have fewer axes: it is repeated."""
    narrow = shape[draw(st.integers(0, len(shape))) :]
    sides = [draw(shaped(shape, depth)), draw(shaped(narrow, depth))]
    left, right = draw(st.permutations(sides))
    return f"{left} {draw(st.sampled_from('+-*'))} {right}"


def _quotient(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"{draw(shaped(shape, depth))}/(1 + {draw(shaped((), max(1, depth - 2)))}**2)"


def _power(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    base, exponent = draw(shaped(shape, min(depth, 3))), draw(st.sampled_from([2, 3]))
    # Beside a matrix product a power of a matrix is refused, for it could be meant of the matrix.
    return "*".join([base] * exponent) if len(shape) == 2 else f"{base}**{exponent}"


def _positive(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    root = draw(shaped(shape, max(1, depth - 2)))
    return f"{draw(st.sampled_from(['log', 'sqrt']))}(1 + {root}*{root})"


def _function(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    function = draw(st.sampled_from((*_SMOOTH, *_KINKS)))
    inside = draw(shaped(shape, depth))
    return function.format(inside) if "{" in function else f"{function}({inside})"


def _filled(draw: st.DrawFn, depth: int, forms: Sequence[str], *shapes: Shape) -> str:
    """One of the forms, with arrays of these shapes in its places {0}, {1}, ..."""
    form = draw(st.sampled_from(forms))
    arrays = [
        draw(shaped(shape, depth)) if f"{{{place}}}" in form else ""
        for place, shape in enumerate(shapes)
    ]
    return form.format(*arrays)


def _either(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """One where a condition holds and another elsewhere; or the larger of two."""
    forms = ("maximum({0}, {1})", "minimum({0}, {1})", "where({0} > 1/3, {1}, {2})")
    return _filled(draw, depth, (*forms, "where({0} <= 1/3, {1}, 0)"), shape, shape, shape)


def _reduction(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    inside = draw(st.sampled_from([("n",), ("n", "m"), ("m", "n"), ("n-1",), ("n*m",)]))
    word = draw(st.sampled_from(["sum", "mean", "var", "sum", "prod"]))
    return f"{word}({draw(shaped(inside, depth))})"


def _norm(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """Norms and deviations of what is not zero."""
    inside = draw(st.sampled_from([("n",), ("m", "n"), ("n-1",)]))
    word = draw(st.sampled_from(["norm", "norm2", "std"]))
    return f"{word}({draw(shaped(inside, depth))})"


def _entry(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    place = draw(st.sampled_from([0, 1, -1]))
    return f"{draw(shaped((draw(st.sampled_from('nm')),), depth))}[{place}]"


def _average(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    weights = draw(shaped(("n",), max(1, depth - 1)))
    return f"average({draw(shaped(('n',), depth))}, 1 + {weights}**2)"


def _trace(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"trace({draw(shaped(('n', 'n'), depth))})"


def _logdet(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    root = draw(shaped(("n", "n"), max(1, depth - 3)))
    return f"logdet(eye(n) + {root}.T @ {root})"


def _along(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    other = _OTHER[shape[0]]
    axis = draw(st.sampled_from([0, 1, -1]))
    inside = (other, shape[0]) if axis == 0 else (shape[0], other)
    word = draw(st.sampled_from(["sum", "mean", "logsumexp", "var", "prod"]))
    return f"{word}({draw(shaped(inside, depth))}, axis={axis})"


def _centred(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """An array twice, once in a sum over other indices than its own."""
    array = draw(shaped(shape, max(1, depth - 1)))
    return f"{array} - mean({array})"


def _softmax(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"{draw(st.sampled_from(['softmax', 'log_softmax']))}({draw(shaped(shape, depth))})"


def _sums(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    axis = draw(st.sampled_from(["", ", axis=0", ", axis=-1"])) if len(shape) == 2 else ""
    axis = axis or ", axis=1" * (len(shape) == 2)
    return f"cumsum({draw(shaped(shape, depth))}{axis})"


def _inner(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    k = draw(st.sampled_from(["n", "m", "n-1"]))
    return f"{draw(shaped((k,), depth))} @ {draw(shaped((k,), depth))}"


def _bilinear(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    k, m = draw(st.sampled_from("nm")), draw(st.sampled_from("nm"))
    parts = [draw(shaped(each, max(1, depth - 1))) for each in ((k,), (k, m), (m,))]
    return f'einsum("i,ij,j->", {", ".join(parts)})'


def _image(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    k = draw(st.sampled_from(["n", "m"]))
    forms = ("{0} @ {1}", "{1} @ {2}", 'einsum("ij,j->i", {0}, {1})', 'einsum("ji,j->i", {2}, {1})')
    return _filled(draw, depth, forms, (*shape, k), (k,), (k, *shape))


def _row(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """A row or a column of a matrix, or its diagonal."""
    k = draw(st.sampled_from(["n", "m"]))
    forms = ("{0}[0]", "{0}[-1]", "{1}[:, 1]", "diag({2})")
    return _filled(draw, depth, forms, (k, *shape), (*shape, k), (*shape, *shape))


def _slice(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    item = draw(st.sampled_from(["{}[1:]", "{}[:-1]", "diff({})"]))
    return item.format(draw(shaped(("n",), depth)))


def _kron(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"kron({draw(shaped(('n',), depth))}, {draw(shaped(('m',), depth))})"


def _product(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    k = draw(st.sampled_from(["n", "m"]))
    forms = ("{0} @ {1}", 'einsum("ik,kj->ij", {0}, {1})')
    return _filled(draw, depth, forms, (shape[0], k), (k, shape[1]))


def _outer(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    """Every entry of one vector beside every entry of another."""
    forms = ("outer({0}, {1})", "{0}[:, None] - {1}[None, :]", "{0}[:, None]*{1}")
    return _filled(draw, depth, (*forms, 'einsum("i,j->ij", {0}, {1})'), shape[:1], shape[1:])


def _transpose(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"{draw(shaped(shape[::-1], depth))}.T"


def _diagonal(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    return f"diag({draw(shaped(shape[:1], depth))})"


def _inverse(draw: st.DrawFn, shape: Shape, depth: int) -> str:
    root = draw(shaped((shape[0], shape[0]), max(1, depth - 3)))
    return f"inv(eye({shape[0]}) + {root}.T @ {root})"


def _always(shape: Shape) -> bool:
    return True


def _of_axes(*numbers: int) -> Callable[[Shape], bool]:
    """Of so many axes, each one of the declared sizes."""
    return lambda shape: len(shape) in numbers and all(size in _OTHER for size in shape)


def _square(shape: Shape) -> bool:
    return len(shape) == 2 and shape[0] == shape[1]


_FORMS: tuple[tuple[Form, Callable[[Shape], bool]], ...] = (
    *((form, _always) for form in (_leaf, _negative, _binary, _quotient, _power, _positive)),
    *((form, _always) for form in (_function, _function, _either)),
    *((form, _of_axes(0)) for form in (_reduction, _norm, _entry, _average, _trace, _logdet)),
    *((form, _of_axes(0)) for form in (_reduction, _inner, _bilinear)),
    *((form, _of_axes(1)) for form in (_image, _along, _row)),
    *((form, _of_axes(1, 2)) for form in (_softmax, _centred, _sums)),
    *((form, _of_axes(2)) for form in (_product, _outer, _transpose)),
    *((form, _square) for form in (_inverse, _diagonal)),
    (_slice, lambda shape: shape == ("n-1",)),
    (_kron, lambda shape: shape == ("n*m",)),
)


@dataclass(frozen=True)
class Drawn:
    """The text of a cost, and which of its names are parameters."""

    drawn: str
    picks: tuple[int, ...]

    @property
    def text(self) -> str:
        """With no parentheses but those that it needs."""
        return ast.unparse(ast.parse(self.drawn, mode="eval"))

    @property
    def case(self) -> Case:
        tree = ast.parse(self.drawn, mode="eval")
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        occurring = [name for name in DECLARED if name in names] or ["x"]
        wrt = dict.fromkeys(occurring[pick % len(occurring)] for pick in self.picks)
        return Case(
            self.text,
            self.text,
            " ".join(wrt),
            " ".join(f"{name}[{','.join(DECLARED[name])}]" for name in occurring),
        )


def costs(depth: int = 5) -> st.SearchStrategy[Drawn]:
    """Costs whose shapes fit, with one or two of their names as parameters."""
    return st.builds(Drawn, shaped((), depth), st.tuples(st.integers(0, 8), st.integers(0, 8)))
