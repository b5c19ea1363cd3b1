"""The printed functions run as they stand, equal `evaluate`, and read as a person would write
them."""

import ast
import importlib
import inspect
import math
import re
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy
import pytest
import scipy.special
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import hesse
from derivation.strategies import Drawn, costs
from formula_cases import COSTS, F_OF, CostText, arrays_for, for_numpy
from hesse.derivation.calculus.expression import Delta, Entry, Expression, Index, Partial, of
from hesse.derivation.calculus.program import Leaf, Program
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.code.backends import BACKENDS
from hesse.derivation.code.identifiers import Names, identifier
from hesse.derivation.code.python import python
from hesse.derivation.code.right_hand_sides import CodeWriter
from hesse.derivation.code.statements import Scale

P, Q = Index("o", "d"), Index("j", "d")


def made(source: str, name: str = "hessian_block") -> Callable[..., Any]:
    """The function that a source defines, in a namespace where nothing is imported."""
    space: dict[str, Any] = {}
    exec(compile(source, "<printed>", "exec"), space)
    return space[name]


@pytest.fixture(scope="module")
def jax() -> Iterator[ModuleType]:
    """JAX in float64; where it is not installed, NumPy under its name: code that writes to no array
    runs in both."""
    try:
        library = importlib.import_module("jax")
        importlib.import_module("jax.scipy.special")
        library.config.update("jax_enable_x64", True)
        yield library
    except ImportError:
        library = ModuleType("jax")
        vars(library).update(numpy=numpy, scipy=scipy)
        paths = {"jax": library, "jax.numpy": numpy, "jax.scipy": scipy}
        with pytest.MonkeyPatch.context() as patch:
            for path, module in {**paths, "jax.scipy.special": scipy.special}.items():
                patch.setitem(sys.modules, path, module)
            yield library


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.text)
def test_printed_blocks_run_in_jax(cost: CostText, jax: ModuleType) -> None:
    derivation = cost.derivation
    arrays = {name: array.numpy() for name, array in arrays_for(derivation.program).items()}
    f = for_numpy(F_OF)
    unknown = {"f": f} if derivation.program.unknown else {}
    names = {
        "f": f[0],
        "df": f[1],
        "d2f": f[2],
        **{k: jax.numpy.asarray(arrays[k]) for k in arrays},
    }
    rows, columns = derivation.parameters[0], derivation.parameters[-1]
    block = derivation.block(rows, columns)
    source = block.python("jax")
    function = made(source)
    found = function(**{name: names[name] for name in inspect.signature(function).parameters})
    assert numpy.allclose(found, block.evaluate(**arrays, **unknown), rtol=1e-11, atol=1e-12)
    assert "[...] +=" not in source and "numpy." not in source.replace("jax.numpy.", "")


@pytest.mark.parametrize("backend", ["numpy", "torch"])
@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.text)
def test_every_printed_block_runs_and_equals_evaluate(cost: CostText, backend: str) -> None:
    derivation = cost.derivation
    tensors = arrays_for(derivation.program)
    arrays = (
        tensors if backend == "torch" else {name: array.numpy() for name, array in tensors.items()}
    )
    f = F_OF if backend == "torch" else for_numpy(F_OF)
    unknown = {"f": f} if derivation.program.unknown else {}
    for rows in derivation.parameters:
        for columns in derivation.parameters:
            block = derivation.block(rows, columns)
            source = block.python(backend)
            function = made(source)
            names = {"f": f[0], "df": f[1], "d2f": f[2], **arrays}
            found = function(
                **{name: names[name] for name in inspect.signature(function).parameters}
            )
            expected = block.evaluate(**arrays, **unknown)
            assert (
                type(found) is type(expected)
                and found.shape == expected.shape
                and found.dtype == expected.dtype
            )
            assert numpy.allclose(found, expected, rtol=1e-12, atol=1e-13)
            imported = {
                line.removeprefix("import ")
                for line in source.splitlines()
                if line.startswith("import ")
            }
            assert backend in imported and imported <= {backend, "math", "scipy.special"}
            before, _, code = source.split('"""')
            assert before.isascii() and (code.isascii() or "Σ" in code)
            assert max(map(len, source.splitlines())) <= 110


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(costs(depth=3))
def test_printed_random_costs_equal_evaluate(drawn: Drawn) -> None:
    case = drawn.case
    derivation = hesse.derive(case.text, case.parameters, shapes=case.shapes, certify=False)
    rows, columns = derivation.parameters[0], derivation.parameters[-1]
    block = derivation.block(rows, columns)
    tensors = arrays_for(derivation.program)
    expected = block.evaluate(**tensors, **dict.fromkeys(derivation.program.unknown, F_OF))
    # As where a root is zero.
    assume(bool(expected.isfinite().all()))
    for backend, f in (("numpy", for_numpy(F_OF)), ("torch", F_OF)):
        function = made(block.python(backend))
        given_names = {
            name: array.numpy() if backend == "numpy" else array for name, array in tensors.items()
        }
        for name in derivation.program.unknown:
            given_names |= {name: f[0], f"d{name}": f[1], f"d2{name}": f[2]}
        found = torch.as_tensor(
            function(**{name: given_names[name] for name in inspect.signature(function).parameters})
        )
        assert found.shape == expected.shape
        assert torch.allclose(
            found,
            expected,
            rtol=1e-9,
            atol=1e-9 * (1 + float(expected.abs().max())),
            equal_nan=True,
        )


def test_a_quadratic_form() -> None:
    source = CostText("x.T @ A @ x", "x").derivation.block("x", "x").python()
    # A large matrix is added to its transpose in strips; of a small one no more is said.
    assert source.splitlines()[-4:] == [
        "    H = A.copy()",
        "    for k in range(0, len(H), 64):",
        "        H[k:k + 64] += A[:, k:k + 64].copy().T",
        "    return H",
    ]
    small = CostText("x.T @ A @ x", "x", "A[3,3]").derivation.block("x", "x").python()
    assert small.splitlines()[-1] == "    return A + A.T"


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_strips_of_a_transpose_are_all_of_it(rows: int, backend: str) -> None:
    block = CostText("x.T @ A @ x", "x").derivation.block("x", "x")
    A = numpy.random.default_rng(0).standard_normal((rows, rows))
    given = A if backend == "numpy" else torch.tensor(A)
    found = numpy.asarray(made(block.python(backend))(given))
    assert (found == A + A.T).all() and (numpy.asarray(block.evaluate(A=given)) == found).all()


def test_logistic_regression_goes_through_one_matrix_product() -> None:
    block = CostText("sum(softplus(X@w) - y*(X@w))", "w", "X[n,d] w[d] y[n]").derivation.block(
        "w", "w"
    )
    for backend in ("numpy", "torch"):
        source = block.python(backend)
        assert (
            source.count("@") == 2
            # The same array twice: libraries compute half of the product.
            and re.search(r"(\w+)\.T @ \1\n", source)
            and "einsum" not in source
            and "eye" not in source
        )
        assert "y" not in inspect.signature(made(source)).parameters


def test_diagonals_are_written_not_multiplied() -> None:
    block = CostText("sum((T - U@V.T)**2)", "U,V").derivation.block("U", "U")
    assert "numpy.einsum(" in block.python() and "numpy.eye" not in block.python()
    assert ".diagonal(dim1=0, dim2=2).add_(" in block.python("torch")


@pytest.mark.parametrize(
    "text",
    [
        "1/2*sum((a + X)**2)",
        "-sum((a + Y)**2)",
        "mean((a*Y)**2)/3",
        "sum(a + X)**2",
        "sum(a + Y)*mean(a*X)",
        "sum(a + X)/sum(a + Y)",
        "sum((a + X)**3) + mean(Y)*a**2",
        "sqrt(sum(1 + a**2 + X))",
        "m*sum((a + X)**2)/n**2",
        "a**2*sqrt(m*n)*sum(X)",
    ],
)
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_numbers_of_several_sizes(text: str, backend: str) -> None:
    declared = ("a[]", "X[n,m]", "Y[n,m,k]")
    shapes = " ".join(shape for shape in declared if shape[0] in text)
    derivation = hesse.derive(text, wrt=["a"], shapes=shapes)
    block = derivation.block("a", "a")
    tensors = arrays_for(derivation.program)
    # The code that is printed is the one that `evaluate` runs: this way shares nothing with it.
    second = of(Partial(derivation.program.cost.entry, (block.rows, block.columns)))
    expected = Valuation(derivation.program, tensors).array(second, ())
    arrays = (
        tensors if backend == "torch" else {name: array.numpy() for name, array in tensors.items()}
    )
    function = made(block.python(backend))
    given = {name: arrays[name] for name in inspect.signature(function).parameters}
    assert numpy.allclose(function(**given), expected, rtol=1e-13)
    assert numpy.allclose(block.evaluate(**arrays), expected, rtol=1e-13)


@given(
    st.fractions(-9, 9, max_denominator=9),
    st.dictionaries(st.sampled_from("kmn"), st.sampled_from([-2, -1, -0.5, 0.5, 1, 2])),
)
def test_a_scale_is_written_whole(number: Fraction, powers: dict[str, float]) -> None:
    scale = Scale(number, tuple((size, Fraction(power)) for size, power in powers.items()))
    writer = CodeWriter(BACKENDS["numpy"], Names(), None, frozenset(), {})
    sizes = {"k": 3, "m": 5, "n": 7}
    expected = float(number) * math.prod(sizes[size] ** power for size, power in powers.items())
    assert eval(ast.unparse(writer.number(scale)), sizes) == pytest.approx(expected, rel=1e-14)


def test_intermediates_have_the_names_of_the_derivation() -> None:
    block = CostText("1/2*sum((y - f(W2 @ f(W1 @ x)))**2)", "W1,W2").derivation.block("W1", "W2")
    source = block.python()
    targets = {
        t.id
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Assign)
        for t in node.targets
        if isinstance(t, ast.Name)
    }
    assert {"z2", "a2", "z3", "y_hat"} <= targets
    assert list(inspect.signature(made(source)).parameters)[-3:] == ["f", "df", "d2f"]
    assert (
        '"""' in source
        and "W1: array of floats, of shape (" in source
        and "df: f', applied to every entry" in source
    )


def test_names_become_identifiers() -> None:
    names = ["δ3", "ŷ", "lambda", "inv(X)", "0.weight", "numpy", "z₂", "Σ", "sum", "x'", "∂", "日"]
    found = [identifier(name) for name in names]
    assert found[:10] == [
        "delta3",
        "y_hat",
        "lambda_",
        "inv_X",
        "p0_weight",
        "numpy_",
        "z2",
        "Sigma",
        "sum_",
        "x_prime",
    ]
    assert all(name.isidentifier() and name.isascii() for name in found)


@given(st.lists(st.text(max_size=6), max_size=8))
def test_identifiers_never_clash(wanted: list[str]) -> None:
    names = Names(["hessian_block"])
    found = [names.new(name) for name in wanted]
    assert len({*found, "hessian_block"}) == len(found) + 1
    assert all(name.isidentifier() and name.isascii() for name in found)


def test_awkward_names_of_leaves() -> None:
    program = Program(
        {name: Leaf(name, ("d", "d")) for name in ("H", "d", "lambda", "δ", "hessian_block", "t1")},
        (),
    )
    terms = [Entry(name, (P, Q)) for name in program.leaves]
    expression = Expression(
        tuple(term for factor in terms for term in of(factor).terms) + of(Delta(P, Q)).terms
    )
    function = made(python(expression, program, free=(P, Q)))
    found = function(*(numpy.full((3, 3), 10.0**k) for k in range(6)))
    assert numpy.array_equal(found, 111111 + numpy.eye(3))


def test_a_constant_is_written_out_or_is_an_argument() -> None:
    small = Leaf("c", (2,), "constant", value=torch.tensor([1.0, 2.0]))
    large = Leaf("M", (9, 9), "constant", value=numpy.eye(9))
    program = Program({"c": small, "M": large, "x": Leaf("x", (2,))}, ())
    at = Index("k", 2)
    expression = Expression((*of(Entry("c", (at,))).terms, *of(Entry("x", (at,))).terms))
    source = python(expression, program, free=(at,))
    assert "[1.0, 2.0]" in source and made(source)(numpy.ones(2)).tolist() == [2, 3]
    i, k = Index("i", 9), Index("k", 9)
    assert list(
        inspect.signature(made(python(of(Entry("M", (i, k))), program, free=(i, k)))).parameters
    ) == ["M"]


def test_a_block_of_zeros_still_has_its_shape() -> None:
    block = CostText("sum(x)", "x", "x[d]").derivation.block("x", "x")
    assert numpy.array_equal(
        made(block.python())(numpy.ones(3, numpy.float32)), numpy.zeros((3, 3))
    )
    assert made(block.python())(numpy.ones(3, numpy.float32)).dtype == numpy.float32


def test_the_formula_stands_in_the_docstring() -> None:
    program = Program({"A": Leaf("A", ("d", "d"))}, ())
    function = made(
        python(
            of(Entry("A", (P, Q))), program, free=(P, Q), name="g", formula="∂²J/∂x∂x = A\n\\alpha"
        ),
        "g",
    )
    assert "∂²J/∂x∂x = A\n" in str(function.__doc__) and "\\alpha" in str(function.__doc__)
    A = numpy.ones((2, 2))
    assert function(A) is not A


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"backend": "jaxx"}, "backend: expected 'numpy' or 'torch' or 'jax', got 'jaxx'"),
        ({"name": "2x"}, "name: expected a name for a function"),
        ({"name": "numpy"}, "name: the function calls the module numpy, which .* would hide"),
        ({"name": "scipy"}, "name: the function calls the module scipy"),
        ({"name": "torch", "backend": "torch"}, "name: the function calls the module torch"),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(hesse.HesseError, match=text):
        python(of(Entry("A", (P, Q))), Program({"A": Leaf("A", ("d", "d"))}, ()), **arguments)
