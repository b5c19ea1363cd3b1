"""The numbers of a formula against automatic differentiation, and what is refused."""

import ast
import math
import weakref
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy
import pytest
import scipy.special
import torch
from torch import Tensor

import hesse
from formula_cases import COSTS, DOMAIN, F_OF, CostText, arrays_for, as_numpy, for_numpy, reference
from hesse.derivation.calculus.expression import (
    Apply,
    Delta,
    Entry,
    Expression,
    Index,
    Partial,
    Power,
    Term,
    constant,
    of,
)
from hesse.derivation.calculus.program import ArrayCall, BlackBox, Leaf, Program, Quantity
from hesse.derivation.calculus.samples import batched
from hesse.derivation.code.backends import BACKENDS
from hesse.derivation.code.evaluation import evaluate
from hesse.derivation.code.lowering import Matmul, lowered
from hesse.derivation.code.schedule import schedule
from hesse.derivation.code.statements import Applied, Argument, Contraction
from hesse.derivation.code.syntax import tree
from hesse.derivation.sources.networks.graph_program import AT_ONCE
from hesse.operations.registry import ARRAY_FUNCTIONS, FUNCTIONS

P, J, K = Index("i", "d"), Index("j", "d"), Index("k", "h")
N = Index("n", "n")


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).abs().max() / b.abs().max().clamp(min=1)) if b.numel() else 0.0


@pytest.mark.parametrize("cost", COSTS, ids=lambda cost: cost.text)
def test_every_block_is_the_hessian(cost: CostText) -> None:
    derivation = cost.derivation
    arrays = arrays_for(derivation.program)
    unknown = {"f": F_OF} if derivation.program.unknown else {}
    for rows in derivation.parameters:
        for columns in derivation.parameters:
            block = derivation.block(rows, columns)
            expected = reference(cost, rows, columns, arrays)
            found = block.evaluate(**arrays, **unknown)
            assert isinstance(found, torch.Tensor) and found.shape == expected.shape
            assert relative(found, expected) < 1e-12
            other = block.evaluate(
                **as_numpy(arrays), **{name: for_numpy(f) for name, f in unknown.items()}
            )
            assert isinstance(other, numpy.ndarray) and other.dtype == numpy.float64
            assert relative(torch.as_tensor(other), expected) < 1e-12


def code(backend: str, function: str) -> str:
    return BACKENDS[backend].function(function)


def spelled(backend: str, function: str, argument: str) -> str:
    return ast.unparse(tree(code(backend, function), z=argument))


def callable_of(backend: str, function: str) -> Callable[[Any], Any]:
    """The code of a function as it runs within a formula."""
    text = f"lambda z: {spelled(backend, function, 'z')}"
    return eval(text, {"numpy": numpy, "torch": torch, "math": math, "scipy": scipy})


@pytest.mark.parametrize("function", [*sorted(FUNCTIONS), "sqrt"])
@pytest.mark.parametrize("backend", ["numpy", "torch"])
def test_code_of_functions(function: str, backend: str) -> None:
    z = torch.linspace(0.05, 40, 50, dtype=torch.float64)
    low, high = DOMAIN.get(function, (-math.inf, math.inf))
    z = torch.cat([-z, z, z / 41])
    z = z[(z > low) & (z < high)]
    expected = FUNCTIONS[function].value(z) if function != "sqrt" else z**0.5
    given = z.numpy() if backend == "numpy" else z
    found = torch.as_tensor(callable_of(backend, function)(given))
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-15)
    text = eval(
        spelled(backend, function, "z"),
        {"numpy": numpy, "torch": torch, "math": math, "scipy": scipy, "z": given},
    )
    assert torch.equal(torch.as_tensor(text), found)


@pytest.mark.parametrize("function", sorted(ARRAY_FUNCTIONS))
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
def test_code_of_whole_arrays(function: str, shape: tuple[int, ...]) -> None:
    z = 30 * torch.rand(
        shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ) + 40 * torch.eye(shape[-1])
    expected = ARRAY_FUNCTIONS[function].value(z)
    for backend, given in (("numpy", z.numpy()), ("torch", z)):
        assert torch.allclose(
            torch.as_tensor(callable_of(backend, function)(given)), expected, rtol=1e-12, atol=1e-14
        )


def test_every_function_has_code() -> None:
    assert all(
        code(backend, name) for backend in BACKENDS for name in (*FUNCTIONS, *ARRAY_FUNCTIONS)
    )


@pytest.mark.parametrize("kind", [numpy.float32, torch.float32, torch.float64])
def test_the_type_of_the_inputs_is_kept(kind: Any) -> None:
    block = CostText("sum(softplus(X@w) - y*(X@w))", "w", "X[n,d] w[d] y[n]").derivation.block(
        "w", "w"
    )
    arrays = arrays_for(block.derivation.program)
    lift = (
        (lambda a: a.to(kind))
        if isinstance(kind, torch.dtype)
        else (lambda a: a.numpy().astype(kind))
    )
    given = {name: lift(array) for name, array in arrays.items()}
    found = block.evaluate(**given)
    assert found.dtype == kind
    assert relative(torch.as_tensor(found).double(), block.evaluate(**arrays)) < 1e-5


def test_integers_lists_and_mixtures() -> None:
    block = CostText("x.T @ A @ x", "x").derivation.block("x", "x")
    assert block.evaluate(A=[[1, 2], [3, 4]]).tolist() == [[2, 5], [5, 8]]
    both = CostText("sum((T - U@V.T)**2)", "U,V").derivation.block("U", "V")
    arrays = arrays_for(both.derivation.program)
    mixed = both.evaluate(**{**as_numpy(arrays), "U": arrays["U"].float()})
    assert isinstance(mixed, torch.Tensor) and mixed.dtype == torch.float64
    tracked = {name: array.clone().requires_grad_() for name, array in arrays.items()}
    assert not both.evaluate(**tracked).requires_grad


def test_the_result_is_never_the_callers_array() -> None:
    A = numpy.ones((2, 2))
    program = Program({"A": Leaf("A", ("d", "d"))}, ())
    found = evaluate(of(Entry("A", (P, J))), (P, J), program, {"A": A})
    found += 1
    assert A.sum() == 4
    once = evaluate(constant(2), (), program, {"A": torch.ones(2, 2)})
    once += 1
    assert evaluate(constant(2), (), program, {"A": torch.ones(2, 2)}) == 2


@pytest.mark.parametrize("kind", [numpy.ones, torch.ones])
def test_what_is_kept_holds_no_array_of_the_caller(kind: Callable[..., Any]) -> None:
    program = Program({"A": Leaf("A", ("d", "d"))}, ())
    A = kind((3, 3))
    held = weakref.ref(A)
    evaluate(Expression(of(Entry("A", (P, J))).terms * 2), (P, J), program, {"A": A})
    del A
    assert held() is None


@pytest.mark.parametrize(
    ("deltas", "expected"),
    [
        (
            [(0, 1)],
            lambda n: numpy.einsum("ij,k,l->ijkl", numpy.eye(n), numpy.ones(n), numpy.ones(n)),
        ),
        ([(0, 2), (1, 3)], lambda n: numpy.einsum("ik,jl->ijkl", numpy.eye(n), numpy.eye(n))),
        ([(0, 1), (1, 2)], lambda n: numpy.einsum("ijk,l->ijkl", _all_equal(n, 3), numpy.ones(n))),
        ([(0, 1), (1, 2), (2, 3)], lambda n: _all_equal(n, 4)),
        (
            [(3, 2), (0, 3), (0, 2)],
            lambda n: numpy.einsum("ikl,j->ijkl", _all_equal(n, 3), numpy.ones(n)),
        ),
    ],
)
def test_deltas_of_free_indices(
    deltas: list[tuple[int, int]], expected: Callable[[int], numpy.ndarray]
) -> None:
    free = tuple(Index(name, 3) for name in "ijkl")
    term = Term(Fraction(-3, 2), tuple(Delta(free[a], free[b]) for a, b in deltas))
    for like in (numpy.ones(3), torch.ones(3, dtype=torch.float64)):
        found = evaluate(
            Expression((term,)), free, Program({"v": Leaf("v", (3,))}, ()), {"v": like}
        )
        assert numpy.array_equal(numpy.asarray(found), -1.5 * expected(3))


def _all_equal(n: int, axes: int) -> numpy.ndarray:
    array = numpy.zeros((n,) * axes)
    array[(numpy.arange(n),) * axes] = 1
    return array


def test_known_functions_stand_for_unknown_ones() -> None:
    text = "1/2*sum((y - f(W2 @ f(W1 @ x)))**2)"
    block = CostText(text, "W1,W2").derivation.block("W1", "W2")
    arrays = arrays_for(block.derivation.program)
    named = CostText(text.replace("f(", "tanh("), "W1,W2")
    assert (
        relative(block.evaluate(**arrays, f="tanh"), reference(named, "W1", "W2", arrays)) < 1e-12
    )


# ---------------------------------------------------------------- samples


def _network() -> tuple[Program, Expression]:
    """One sample's z = W x, p = softmax(z), and x_k (p_i p_j − W[i,k]) + [i = j]."""
    W, x, p = (
        (lambda a, b: Entry("W", (a, b))),
        (lambda a: Entry("x", (a,))),
        (lambda a: Entry("p", (a,))),
    )
    quantities = (
        Quantity(
            "z", (P,), Expression((Term(Fraction(1), (W(P, K), x(K)), (K,)),)), "preactivation"
        ),
        Quantity("p", (P,), ArrayCall("softmax", Entry("z", (P,)))),
        Quantity("q", (P,), BlackBox("cumsum", ("p", "c"), lambda p, c: p.cumsum(0) * c)),
    )
    leaves = {
        "W": Leaf("W", ("d", "h"), "parameter"),
        "x": Leaf("x", ("h",), per_sample=True),
        "c": Leaf("c"),
    }
    terms = (
        Term(Fraction(1), (x(K), p(P), p(J))),
        Term(Fraction(-1), (x(K), W(P, K))),
        Term(Fraction(1), (Delta(P, J),)),
    )
    terms = (*terms, Term(Fraction(2), (Entry("q", (J,)),)))
    return Program(leaves, quantities), Expression(terms)


def test_samples_are_summed_over() -> None:
    program, expression = _network()
    generator = torch.Generator().manual_seed(0)
    W, x = (
        torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 4), (5, 4))
    )
    for lift in (lambda a: a, lambda a: a.numpy()):
        given = {"W": lift(W), "c": lift(torch.tensor(0.7, dtype=torch.float64))}
        free = (P, J, K)
        each = [evaluate(expression, free, program, {**given, "x": lift(sample)}) for sample in x]
        every = evaluate(expression, free, program, {**given, "x": lift(x)})
        assert type(every) is type(given["W"])
        assert (
            relative(
                torch.as_tensor(every), torch.stack([torch.as_tensor(part) for part in each]).sum(0)
            )
            < 1e-13
        )


def test_batched_adds_one_index_to_what_is_one_samples() -> None:
    program, expression = _network()
    whole, every = batched(expression, program)
    assert [len(every.by_name[name].indices) for name in ("z", "p", "q")] == [2, 2, 2]
    assert every.leaves["x"].sizes[1:] == ("h",) and every.leaves["W"].sizes == ("d", "h")
    assert all(index.name not in {"i", "j", "k"} for index in every.by_name["z"].indices[:1])
    assert len(whole.terms) == len(expression.terms)


@pytest.mark.parametrize("loss", ["half_sse", "cross_entropy"])
def test_a_network_over_samples(loss: str) -> None:
    derivation = hesse.derive(
        hesse.Network("2-3-4", activation="tanh", loss=loss, bias=True), certify=False
    )
    program, generator = derivation.program, torch.Generator().manual_seed(1)
    arrays = {}
    for name, leaf in program.leaves.items():
        if leaf.value is None:
            shape = (6, *leaf.sizes) if leaf.per_sample else leaf.sizes
            arrays[name] = torch.rand(shape, generator=generator, dtype=torch.float64)  # pyright: ignore[reportCallIssue, reportArgumentType]
    for rows in derivation.parameters:
        block = derivation.block(rows, derivation.parameters[-1])
        samples = [
            {name: a[n] if program.leaves[name].per_sample else a for name, a in arrays.items()}
            for n in range(6)
        ]
        each = torch.stack([block.evaluate(**sample) for sample in samples])
        assert (
            relative(
                block.evaluate(**arrays), each.mean(0) if program.samples == "mean" else each.sum(0)
            )
            < 1e-12
        )


# ---------------------------------------------------------------- a cost's own parameters and data


class Cumulative(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc, self.out = torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(torch.cumprod(1.5 + torch.tanh(self.fc(x)), -1))


def _with(activation: torch.nn.Module) -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), activation, torch.nn.Linear(4, 2))


OWN = {
    "a function with a row": (lambda: _with(torch.nn.Tanh()), "half_sse"),
    "one without": (lambda: _with(torch.nn.LeakyReLU()), "cross_entropy"),
    "another": (
        lambda: _with(torch.nn.Mish()),
        torch.nn.CrossEntropyLoss(weight=torch.tensor([1.0, 3.0]).double()),
    ),
    "a kink": (lambda: _with(torch.nn.ELU()), torch.nn.CrossEntropyLoss(reduction="sum")),
    "a named map": (Cumulative, "cross_entropy"),
}


@pytest.mark.parametrize("name", OWN)
def test_a_cost_s_own_parameters_and_samples_give_its_hessian(name: str) -> None:
    make, loss = OWN[name]
    torch.manual_seed(0)
    model = make().double()
    generator = torch.Generator().manual_seed(1)
    samples = 7 if name == "a named map" else AT_ONCE + 6
    X = torch.randn(samples, 3, generator=generator, dtype=torch.float64)
    y = torch.randint(2, (samples,), generator=generator)
    target = torch.nn.functional.one_hot(y, 2).double()
    y = target if loss == "half_sse" else y
    cost = hesse.Cost(model, loss, [(X[:-3], y[:-3]), (X[-3:], y[-3:])])
    H, d = hesse.hessian(cost), hesse.derive(cost, certify=False)
    parameters = {key: value.detach() for key, value in model.named_parameters()}
    first, *_, last = d.parameters
    for rows, columns in [(first, first), (first, last), (last, first)]:
        block, expected = d.block(rows, columns), H[rows, columns]
        assert relative(block.evaluate(), expected) < 1e-12
        other = block.evaluate(**{key: value.numpy() for key, value in parameters.items()})
        assert (
            isinstance(other, numpy.ndarray) and relative(torch.as_tensor(other), expected) < 1e-12
        )
        if isinstance(loss, str):
            assert relative(block.evaluate(x=X, y=target), expected) < 1e-12
            found = block.evaluate(x=X.numpy(), y=target.numpy())
            assert (
                isinstance(found, numpy.ndarray)
                and relative(torch.as_tensor(found), expected) < 1e-12
            )
        one = block.evaluate(x=X[0], y=target[0], **parameters)
        assert one.shape == expected.shape


def test_a_cost_s_own_data_are_all_or_none() -> None:
    data = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    d = hesse.derive(
        hesse.Cost(_with(torch.nn.Tanh()).double(), "cross_entropy", data), "2.bias", certify=False
    )
    block = d.block("2.bias", "2.bias")
    with pytest.raises(
        hesse.HesseError,
        match=(
            r"y: expected shape \(5, 2\), one-hot where they are classes, as x holds 5 samples; got"
            r" shape \(5,\)"
        ),
    ):
        block.evaluate(x=data[0], y=data[1])
    with pytest.raises(hesse.HesseError, match="no array is called 'z'"):
        block.evaluate(z=1.0)


def test_a_function_without_a_row_is_an_argument_of_the_code_and_a_named_map_has_none() -> None:
    data = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 1, 1, 0, 1])
    scaled, cumulative = (
        hesse.derive(hesse.Cost(model.double(), "cross_entropy", data), certify=False)
        for model in (_with(torch.nn.SELU()), Cumulative())
    )
    assert "selu, dselu):" in scaled.block("0.weight", "2.weight").python()
    assert (
        "∂²J/∂0.weight[o,i]∂2.weight[p,j] = selu'(z(0)[o])"
        in scaled.block("0.weight", "2.weight").python()
    )
    with pytest.raises(
        hesse.HesseError,
        match=r"python: cumprod has no formula, .* evaluate\(\) computes this block",
    ):
        cumulative.block("fc.weight", "out.weight").python()


# ---------------------------------------------------------------- the schedule


def test_only_what_is_needed_is_computed_and_only_once() -> None:
    block = CostText("sum(softplus(X@w) - y*(X@w))", "w", "X[n,d] w[d] y[n]").derivation.block(
        "w", "w"
    )
    made = schedule(block.expression, block.indices, block.derivation.program)
    nodes = [statement.node for statement in made.statements]
    assert sorted(node.name for node in nodes if isinstance(node, Argument)) == ["X", "w"]
    # One sigmoid, of X w; and the root of weights that rounding may leave below zero.
    assert [n.function for n in nodes if isinstance(n, Applied)] == ["sigmoid", "abs"]
    products = [lowered(s.node, s.axes) for s in made.statements if isinstance(s.node, Contraction)]
    assert len(products) == 2 and all(isinstance(product, Matmul) for product in products)


@pytest.mark.parametrize(
    ("text", "cost", "is_square"),
    [
        ("sum(exp(X@w))", lambda z, _: z.exp().sum(), True),
        ("sum(cosh(X@w))/5", lambda z, _: z.cosh().sum() / 5, True),
        ("-sum(log(X@w))", lambda z, _: -z.log().sum(), True),
        ("sum(log(X@w))", lambda z, _: z.log().sum(), True),
        ("sum(p**2*exp(X@w))", lambda z, p: (p**2 * z.exp()).sum(), True),
        ("sum(p*exp(X@w))", lambda z, p: (p * z.exp()).sum(), False),
        ("sum(sin(X@w))", lambda z, _: z.sin().sum(), False),
    ],
)
def test_weights_that_are_not_negative_are_shared_by_both_factors(
    text: str, cost: Callable[[Tensor, Tensor], Tensor], is_square: bool
) -> None:
    shapes = "X[n,d] w[d]" + " p[n]" * ("p*" in text)
    block = CostText(text, "w", shapes).derivation.block("w", "w")
    made = schedule(block.expression, block.indices, block.derivation.program)
    products = [s.node for s in made.statements if isinstance(s.node, Contraction)]
    assert any(node.left.id == node.right.id for node in products) == is_square
    random = torch.Generator().manual_seed(0)
    X, w, p = (
        torch.rand(*shape, generator=random, dtype=torch.float64) + 0.1
        for shape in ((5, 3), (3,), (5,))
    )
    given = {"X": X, "w": w, **({"p": p - 0.6} if "p*" in text else {})}
    expected = torch.func.hessian(lambda w: cost(X @ w, p - 0.6))(w)
    assert torch.allclose(torch.as_tensor(block.evaluate(**given)), expected, rtol=1e-12)


def test_the_order_of_products_is_chosen() -> None:
    # Σ_jk A[i,j] B[j,k] v[k] from the right: two products of a matrix and a vector.
    A, B, v = Entry("A", (P, J)), Entry("B", (J, K)), Entry("v", (K,))
    program = Program(
        {"A": Leaf("A", ("d", "d")), "B": Leaf("B", ("d", "h")), "v": Leaf("v", ("h",))}, ()
    )
    made = schedule(Expression((Term(Fraction(1), (A, B, v), (J, K)),)), (P,), program)
    assert [len(s.axes) for s in made.statements if isinstance(s.node, Contraction)] == [1, 1]


@pytest.mark.parametrize(
    "spelling",
    [
        "ij,jk->ik",
        "ij,jk->ki",
        "nij,njk->nik",
        "nij,nj->ni",
        "ni,nij->jn",
        "nij,nij->n",
        "nij,nk->ijk",
        "ijab,abkl->kilj",
        "nija,nakb->njikb",
    ],
)
def test_contractions_of_every_form(spelling: str) -> None:
    inputs, out = spelling.split("->")
    at = [tuple(Index(letter, letter.upper()) for letter in part) for part in inputs.split(",")]
    generator = numpy.random.default_rng(0)
    sizes = {letter: 2 + k for k, letter in enumerate(sorted(set(spelling) - set(",->")))}
    given = {
        name: generator.standard_normal([sizes[i.name] for i in axes])
        for name, axes in zip("XY", at, strict=True)
    }
    program = Program(
        {
            name: Leaf(name, tuple(i.size for i in axes))
            for name, axes in zip("XY", at, strict=True)
        },
        (),
    )
    free = tuple(Index(letter, letter.upper()) for letter in out)
    bound = tuple({i: None for axes in at for i in axes if i not in free})
    expression = Expression((Term(Fraction(3), (Entry("X", at[0]), Entry("Y", at[1])), bound),))
    expected = 3 * numpy.einsum(spelling, given["X"], given["Y"])
    assert numpy.allclose(
        evaluate(expression, free, program, given), expected, rtol=1e-13, atol=1e-13
    )
    tensors = {name: torch.as_tensor(array) for name, array in given.items()}
    assert numpy.allclose(
        evaluate(expression, free, program, tensors), expected, rtol=1e-13, atol=1e-13
    )


# ---------------------------------------------------------------- bad input

PROGRAM = Program(
    {"A": Leaf("A", ("n", "d"), "parameter"), "b": Leaf("b", ("n",)), "s": Leaf("s")},
    (),
    frozenset({"f"}),
)
EXPRESSION = Expression(
    (Term(Fraction(1), (Entry("A", (N, P)), Apply("f", 1, Entry("b", (N,))), Entry("s")), (N,)),)
)
GIVEN = {"A": numpy.ones((2, 3)), "b": numpy.ones(2), "s": 1.0}


@pytest.mark.parametrize(
    ("arrays", "functions", "kind", "text"),
    [
        (
            {"A": GIVEN["A"]},
            {"f": "tanh"},
            hesse.HesseError,
            r"missing: b, shape \(n,\); s, a scalar\. Needed are A, b, s",
        ),
        (
            {**GIVEN, "B": 1},
            {"f": "tanh"},
            KeyError,
            "no array is called 'B'; expected 'A', 'b', 's'",
        ),
        (
            {**GIVEN, "b": numpy.ones(4)},
            {"f": "tanh"},
            ValueError,
            r"b: expected shape \(n,\), got shape \(4,\); axis 0 has 4, expected n = 2 by A",
        ),
        (
            {**GIVEN, "b": numpy.ones((2, 1))},
            {"f": "tanh"},
            ValueError,
            r"b: expected shape \(n,\), got an array of shape \(2, 1\)",
        ),
        (
            {**GIVEN, "s": numpy.ones(1)},
            {"f": "tanh"},
            ValueError,
            r"s: expected a scalar, got an array of shape \(1,\)",
        ),
        (
            {**GIVEN, "b": numpy.ones(2) * 1j},
            {"f": "tanh"},
            TypeError,
            "b: expected an array of real numbers",
        ),
        (
            {**GIVEN, "b": torch.ones(2) * 1j},
            {"f": "tanh"},
            TypeError,
            "b: expected real numbers, got torch.complex64",
        ),
        (
            {**GIVEN, "b": ["x", "y"]},
            {"f": "tanh"},
            TypeError,
            "b: expected an array of real numbers, got list",
        ),
        (GIVEN, {}, KeyError, "f is unknown here: give functions="),
        (GIVEN, {"f": "tann"}, KeyError, "f: no function is called 'tann'; nearest: 'tan'"),
        (GIVEN, {"f": (numpy.tanh,)}, KeyError, "f' is needed, got only 1 of"),
        (
            GIVEN,
            {"f": ()},
            TypeError,
            r"f: expected the name of a function, .* or the functions \(f, f', f''\); got tuple",
        ),
        (GIVEN, {"g": "tanh"}, KeyError, "no unknown function is called 'g'; expected 'f'"),
    ],
)
def test_what_is_refused(arrays: dict, functions: dict, kind: type[Exception], text: str) -> None:
    with pytest.raises(kind, match=text) as error:
        evaluate(EXPRESSION, (P,), PROGRAM, arrays, functions)
    assert isinstance(error.value, hesse.HesseError)


def test_samples_must_be_given_for_all_or_none() -> None:
    program = Program(
        {"x": Leaf("x", ("d",), per_sample=True), "y": Leaf("y", ("d",), per_sample=True)}, ()
    )
    expression = Expression((Term(Fraction(1), (Entry("x", (P,)), Entry("y", (P,))), (P,)),))
    with pytest.raises(
        ValueError,
        match=(
            r"y: expected shape \(4, d\), as x holds 4 samples; got shape \(3,\); give both for"
            r" many"
        ),
    ):
        evaluate(expression, (), program, {"x": numpy.ones((4, 3)), "y": numpy.ones(3)})


def test_a_size_that_nothing_given_has() -> None:
    program = Program({"x": Leaf("x", ("d",), "parameter"), "a": Leaf("a")}, ())
    with pytest.raises(hesse.HesseError, match="the size d is not known: give x as well"):
        evaluate(of(Delta(P, J)), (P, J), program, {"a": 1.0})
    assert numpy.array_equal(
        evaluate(of(Delta(P, J)), (P, J), program, {"x": numpy.zeros(2)}), numpy.eye(2)
    )


def test_a_derivative_not_carried_out_has_no_numbers() -> None:
    program = Program({"x": Leaf("x", ("d",))}, ())
    line = of(Partial(Power(Entry("x", (P,)), constant(2)), (Entry("x", (J,)),)))
    with pytest.raises(hesse.HesseError, match="has not been carried out"):
        evaluate(line, (P, J), program, {"x": numpy.ones(2)})


def test_a_result_that_does_not_fit() -> None:
    program = Program({"x": Leaf("x", ("d",))}, ())
    wide = tuple(Index(name, "d") for name in "ijkl")
    with pytest.raises(
        MemoryError, match=r"the result of shape \(30000, 30000, 30000, 30000\) needs an array of"
    ):
        evaluate(constant(1), wide, program, {"x": numpy.ones(30000)})
