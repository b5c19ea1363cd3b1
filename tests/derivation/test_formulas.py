"""What can be asked of a derivation beside its blocks, against automatic differentiation of the
cost as it is written."""

import inspect
from typing import Any

import pytest
import torch

import hesse
from derivation.surface import arrays, evaluate

COSTS = {
    "logistic": ("sum(softplus(X @ w) - y*(X @ w))", "w", "X[n,d] w[d] y[n]"),
    "network": ("1/2*sum((y - tanh(W2 @ sigmoid(W1 @ x)))**2)", "W1 W2", None),
    "factorisation": ("sum((T - U @ V.T)**2)", "U V", "T[n,m] U[n,k] V[m,k]"),
    "quadratic form": ("x.T @ A @ x", "x", None),
    "classifier": ("-sum(y*log_softmax(W @ x))", "W", None),
    "scalars": ("a*b**2 + exp(a*b)", "a b", None),
}


@pytest.fixture(scope="module", params=COSTS, ids=list(COSTS))
def asked(request: pytest.FixtureRequest) -> tuple[str, hesse.Derivation, dict[str, torch.Tensor]]:
    text, wrt, shapes = COSTS[request.param]
    d = hesse.derive(text, wrt.split(), shapes=shapes)
    return text, d, arrays(d.program)


def flat_cost(text: str, d: hesse.Derivation, values: dict[str, torch.Tensor]):
    """The cost as a function of all parameters in one vector, and that vector."""
    shapes = [values[name].shape for name in d.parameters]
    start = torch.cat([values[name].reshape(-1) for name in d.parameters])

    def cost(vector: torch.Tensor) -> torch.Tensor:
        parts = vector.split([shape.numel() for shape in shapes])
        moved = {
            name: part.reshape(shape)
            for name, part, shape in zip(d.parameters, parts, shapes, strict=True)
        }
        return evaluate(text, d.program, {**values, **moved})

    return cost, start


def called(source: str, name: str, values: dict[str, Any]) -> Any:
    space: dict[str, Any] = {}
    exec(source, space)
    return space[name](**{key: values[key] for key in inspect.signature(space[name]).parameters})


def test_the_gradient_is_that_of_the_cost(asked) -> None:
    text, d, values = asked
    cost, start = flat_cost(text, d, values)
    expected = torch.func.grad(cost)(start)
    found = [d.gradient(name) for name in d.parameters]
    parts = [formula.evaluate(**values).reshape(-1) for formula in found]
    assert torch.allclose(torch.cat(parts), expected, rtol=1e-10, atol=1e-12)
    printed = [called(g.python("torch"), "gradient", values).reshape(-1) for g in found]
    assert torch.allclose(torch.cat(printed), expected, rtol=1e-10, atol=1e-12)


def test_the_whole_hessian_and_its_product(asked) -> None:
    text, d, values = asked
    cost, start = flat_cost(text, d, values)
    expected = torch.func.hessian(cost)(start)
    whole = d.hessian()
    found = whole.evaluate(**values)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-11) and (found == found.T).all()
    for backend in ("numpy", "torch"):
        given = values if backend == "torch" else {k: v.numpy() for k, v in values.items()}
        printed = torch.as_tensor(called(whole.python(backend), "hessian", given))
        assert torch.allclose(printed, expected, rtol=1e-10, atol=1e-11)
    compile(whole.python("jax"), "<jax>", "exec")
    v = torch.randn(len(start), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    names = ["v"] if len(d.parameters) == 1 else [f"v_{name}" for name in d.parameters]
    parts = v.split([values[name].numel() for name in d.parameters])
    directions = {
        called_: part.reshape(values[name].shape)
        for called_, name, part in zip(names, d.parameters, parts, strict=True)
    }
    products = [d.product(name).evaluate(**values, **directions) for name in d.parameters]
    flat = torch.cat([product.reshape(-1) for product in products])
    assert torch.allclose(flat, expected @ v, rtol=1e-10, atol=1e-11)


def test_third_derivatives_are_those_of_the_cost(asked) -> None:
    text, d, values = asked
    cost, start = flat_cost(text, d, values)
    first, last = d.parameters[0], d.parameters[-1]
    n, m = values[first].numel(), values[last].numel()
    expected = torch.func.jacfwd(torch.func.hessian(cost))(start)[:n, -m:, :n]
    found = d.third(first, last, first)
    assert torch.allclose(
        found.evaluate(**values).reshape(n, m, n), expected, rtol=1e-9, atol=1e-10
    )
    assert max(line.deviation for line in found.lines) < 1e-10


@pytest.mark.parametrize(
    ("text", "wrt", "shapes", "matrix"),
    [
        ("W @ x", "W", None, "I ⊗ xᵀ"),
        ("A @ x", "x", None, "A"),
        ("A @ X @ B", "X", "A[m,n] X[n,k] B[k,l]", "A ⊗ Bᵀ"),
        ("softmax(z)", "z", "z[n]", "diag(p) − p pᵀ"),
        ("x*(w @ x)", "x", "x[n] w[n]", None),
        ("tanh(W @ x + b)", "W b", None, None),
        ("x/norm2(x)", "x", "x[n]", None),
        ("inv(A)", "A", None, None),
    ],
)
def test_a_jacobian_of_a_vector_or_a_matrix(
    text: str, wrt: str, shapes: str | None, matrix: str | None
) -> None:
    d = hesse.derive(text, wrt.split(), shapes=shapes)
    values = arrays(d.program)
    if text == "inv(A)":
        values = {"A": values["A"] + 3 * torch.eye(3, dtype=torch.float64)}
    for name in d.parameters:
        formula = d.jacobian(name)
        expected = torch.func.jacrev(
            lambda moved, name=name: evaluate(text, d.program, {**values, name: moved})
        )(values[name])
        assert torch.allclose(formula.evaluate(**values), expected, rtol=1e-10, atol=1e-12)
        assert matrix is None or formula.matrix() == matrix
    assert "First derivatives" in d.text() and "first derivatives" in repr(d) and d.latex()


@pytest.mark.parametrize(
    ("text", "wrt", "shapes", "given", "verdict"),
    [
        ("sum(softplus(X @ w) - y*(X @ w))", "w", "X[n,d] w[d] y[n]", (), "convex"),
        ("sum((y - X @ w)**2)", "w", None, (), "convex"),
        ("logsumexp(X @ w)", "w", "X[n,d] w[d]", (), "convex"),
        ("-sum(y*log_softmax(W @ x))", "W", None, ("sum(y) == 1",), "convex"),
        ("-sum(y*log_softmax(W @ x))", "W", None, (), "neither"),
        ("sum(log(x))", "x", None, (), "concave"),
        ("x.T @ A @ x", "x", None, ("A > 0",), "convex"),
        ("(x - m).T @ inv(S) @ (x - m)", "x", "x[d] m[d] S[d,d]", ("S > 0",), "convex"),
        ("sum((y - X @ w)**2) + lam*sum(w**2)", "w", "lam[]", ("lam > 0",), "convex"),
        ("norm2(y - X @ w)", "w", None, (), "convex"),
        ("c @ x", "x", "c[d] x[d]", (), "linear"),
        ("x.T @ A @ x", "x", None, (), "neither"),
        ("1/2*sum((y - tanh(W @ x))**2)", "W", None, (), "neither"),
        ("norm2(x)", "x", None, (), "convex"),
        ("sum(x**4)", "x", None, (), "convex"),
        ("sum(x**3)", "x", None, (), "neither"),
        ("sum(exp(A @ x))", "x", None, (), "convex"),
        ("-(c @ x)**2", "x", "c[d] x[d]", (), "concave"),
        # −(Σ p g)(Σ p g)ᵀ needs Σ p g gᵀ, and not Σ p h g gᵀ, beside it.
        ("logsumexp(X @ w)*s", "w", "X[n,d] w[d] s[]", (), "neither"),
        ("norm(x - c)", "x", "x[d] c[d]", (), "convex"),
        ("-norm(X)", "X", "X[n,d]", (), "concave"),
        ("sqrt(1 + x @ x)", "x", "x[d]", (), "convex"),
        ("sqrt(x @ x - 1)", "x", "x[d]", (), "neither"),
        ("1/norm(x)", "x", "x[d]", (), "neither"),
        ("std(x)", "x", "x[4]", (), "not concave"),
        ("std(x)", "x", "x[2]", (), "unknown"),  # zero, up to rounding
    ],
)
def test_a_verdict_on_convexity(
    text: str, wrt: str, shapes: str | None, given: tuple[str, ...], verdict: str
) -> None:
    d = hesse.derive(text, wrt, shapes=shapes, given=given)
    found = d.convexity()
    assert found.verdict == verdict and verdict in repr(found)
    assert (found.point is None) == (verdict in ("convex", "concave", "linear", "unknown"))
    point = found.point
    if point is not None:
        assert found.direction is not None and found.curvature is not None
        cost = lambda moved: evaluate(text, d.program, {**point, wrt: moved}, given)  # noqa: E731
        v = found.direction
        slope = torch.func.jvp(torch.func.grad(cost), (point[wrt],), (v,))[1]
        assert float((slope * v).sum()) == pytest.approx(found.curvature, rel=1e-8)
        assert (found.curvature < 0) == (verdict != "not concave")


def test_a_cost_gives_its_gradient_over_all_its_samples() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    X, y = torch.randn(5, 2), torch.randn(5, 1)
    cost = hesse.Cost(model.double(), "mse", (X.double(), y.double()))
    d = hesse.derive(cost)
    expected = hesse.gradient(cost)
    for name in d.parameters:
        assert torch.allclose(d.gradient(name).evaluate(), expected[name], rtol=1e-9)
    v = {name: torch.ones_like(value) for name, value in expected.items()}
    products = hesse.operator(cost) @ v
    given = {f"v_{name}": value for name, value in v.items()}
    found = d.product(d.parameters[0]).evaluate(**given)
    assert torch.allclose(found, products[d.parameters[0]], rtol=1e-9)
    whole = d.hessian().evaluate()
    assert torch.allclose(whole, hesse.hessian(cost).dense(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda d, f: d.gradient("v"), "gradient: 'v' is not a parameter of this derivation"),
        (
            lambda d, f: d.jacobian("x"),
            "jacobian: a cost was derived; its first derivative is grad",
        ),
        (
            lambda d, f: f.gradient("x"),
            "gradient: a vector was derived; its first derivative is jac",
        ),
        (lambda d, f: f.block("x", "x"), r"block: a vector was derived, of shape \(m,\)"),
        (lambda d, f: f.hessian(), "hessian: a vector was derived"),
        (lambda d, f: d.third("x", "x", "y"), "third: 'y' is not a parameter"),
        (
            lambda d, f: d.hessian().python("fortran"),
            "backend: expected 'numpy' or 'torch' or 'jax'",
        ),
    ],
)
def test_what_is_refused(ask, text: str) -> None:
    with pytest.raises(hesse.HesseError, match=text):
        ask(
            hesse.derive("x @ B @ x", "x", certify=False),
            hesse.derive("A @ x", "x", shapes="A[m,n] x[n]", certify=False),
        )
