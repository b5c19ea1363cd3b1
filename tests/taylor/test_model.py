"""The quadratic model as an object: its values, its error, its forms, what it refuses and what it
leaves alone."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import hesse
from cases import dense
from hesse.errors import (
    HesseError,
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    require_positive,
)

Q = hesse.QuadraticModel


def network(f: type[nn.Module] = nn.Tanh) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return dense(3, 5, 2, f=f).double()


def data(samples: int = 20) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return torch.randn(samples, 3, generator=random).double(), torch.randint(
        2, (samples,), generator=random
    )


def cost(**options: Any) -> hesse.Cost:
    return hesse.Cost(network(), "cross_entropy", data(), **options)


def steps(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) / 10


def linear_least_squares() -> hesse.Cost:
    x, _ = data()
    return hesse.Cost(nn.Linear(3, 2).double(), "mse", (x, x @ steps(3, 2)))


def of(f: Callable[[Tensor], Tensor], x: list[float], **options: Any) -> Q:
    """The model of a function of one vector."""
    return hesse.quadratic(
        hesse.Cost.from_function(lambda p: f(p["x"]), {"x": torch.tensor(x).double()}), **options
    )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dense", [True, False])
def test_it_is_the_second_order_expansion(dense: bool) -> None:
    c = cost(penalty=0.1)
    q, S = hesse.quadratic(c, dense=dense), steps(32, 4)
    H, g = hesse.hessian(c).dense(), c.layout.flatten(hesse.gradient(c))
    assert (q.value, q.dense, q.curvature) == (hesse.value(c), dense, "hessian")
    assert torch.equal(q.gradient, g)
    expected = q.value + g @ S + (S * (H @ S)).sum(0) / 2
    assert torch.allclose(q(S), expected, rtol=1e-13)
    assert torch.allclose(torch.stack([q(s) for s in S.T]), expected, rtol=1e-13)
    assert float(q(c.layout.unflatten(S[:, 1]))) == pytest.approx(float(expected[1]), rel=1e-13)
    assert q(S[:, 0]).shape == () and q(S[:, :0]).shape == (0,)
    assert torch.allclose(q.hessian @ S, H @ S, atol=1e-13)


def test_the_error_is_the_true_cost_less_the_model() -> None:
    c, S = cost(), steps(32, 3)
    q = hesse.quadratic(c)
    true = torch.tensor([hesse.value(c.at(c.theta + s)) for s in S.T], dtype=torch.float64)
    assert torch.allclose(q.error(S), true - q(S), rtol=1e-8)
    assert (
        torch.allclose(q.error(S[:, 1]), q.error(S)[1])
        and q.error(c.layout.unflatten(S[:, 0])).shape == ()
    )
    assert q.true(S[:, 0]) == pytest.approx(float(true[0]), rel=1e-15)


def test_a_step_is_an_argument_too() -> None:
    q = hesse.quadratic(cost())
    step = q.trust_region(0.1)
    assert float(q.value - q(step)) == pytest.approx(step.predicted, rel=1e-9)
    assert float(q.error(step)) == pytest.approx(step.predicted - step.actual(), rel=1e-6)


def test_the_model_of_a_linear_least_squares_is_exact_everywhere() -> None:
    q = hesse.quadratic(linear_least_squares())
    far = 100 * steps(8, 6)
    assert float(q.error(far).abs().max()) <= 1e-11 * float(q(far).max())


def test_the_model_has_no_slope_at_its_minimiser() -> None:
    q = hesse.quadratic(cost(penalty=1.0))
    s = q.minimizer().vector
    assert float((q.gradient + q.hessian @ s).norm()) <= 1e-13
    assert float(q(s)) < float((q(s.unsqueeze(1) + steps(32, 20))).min())


def test_float32_and_mixed_dtypes() -> None:
    wide, narrow = torch.ones(2).double(), torch.ones(2)
    c = hesse.Cost.from_function(
        lambda p: (p["a"].double() * p["b"]).sum() ** 2, {"a": narrow, "b": wide}
    )
    step = hesse.quadratic(c).trust_region(0.5)
    assert step.vector.dtype == torch.float64 and step.parameters()["a"].dtype == torch.float32
    q = hesse.quadratic(
        hesse.Cost(network().float(), "cross_entropy", (data()[0].float(), data()[1]))
    )
    assert (
        q.gradient.dtype
        == q(torch.zeros(32)).dtype
        == q.trust_region(0.1).vector.dtype
        == torch.float32
    )
    assert float(q.error(torch.zeros(32))) == 0.0


# ---------------------------------------------------------------- forms


def test_the_plan_says_dense_or_not_and_why() -> None:
    c = cost()
    assert hesse.quadratic(c).plan.startswith(
        "dense: P = 32, so that H and its eigenvectors take 32.8 kB, within "
    )
    assert (
        hesse.quadratic(c, memory=30_000).plan
        == "matrix-free: P = 32, so that H and its eigenvectors take 32.8 kB, more than 30 kB; H is"
        " known by its products, and steps are sought in Krylov spaces of up to 100 of them"
    )
    assert "as asked" in hesse.quadratic(c, dense=False).plan
    assert str(c) in repr(hesse.quadratic(c))


def test_nothing_large_is_made_before_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    q = hesse.quadratic(cost())
    assert "hessian" not in q.__dict__
    q.trust_region(1.0)
    built = q.hessian
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda *_: pytest.fail("eigenvectors are computed once")
    )
    assert q.cubic(1.0).norm > q.newton(100.0).norm and q.stationary_point().complete
    assert q.hessian is built and q.eigh().values.shape == (32,)


def test_the_model_and_global_state_are_left_alone() -> None:
    model, random = network(), torch.get_rng_state()
    model.train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    for built in (True, False):
        q = hesse.quadratic(hesse.Cost(model, "cross_entropy", data()), dense=built)
        for call in ("trust", "stationary_point", "minimizer", "eigh"):
            with contextlib.suppress(HesseError):
                getattr(q, call)()
        for call in ("trust_region", "cubic", "saddle_free", "negative_curvature"):
            getattr(q, call)(0.1)
        q.error(steps(32))
    assert all(
        p.grad is None and torch.equal(p, before[name]) for name, p in model.named_parameters()
    )
    assert (
        model.training
        and torch.equal(random, torch.get_rng_state())
        and torch.get_default_dtype() == torch.float32
    )


# ---------------------------------------------------------------- stationary points

STATIONARY = [
    (
        lambda x: (x**2).sum(),
        [1.0, 2.0],
        "minimum",
        (0, 0, 2),
        "minimum: 2 positive directions; the model is ",
    ),
    (
        lambda x: -(x**2).sum(),
        [1.0, 2.0],
        "maximum",
        (2, 0, 0),
        "maximum: 2 negative directions, unbounded below; the model",
    ),
    (
        lambda x: x[0] ** 2 - x[1] ** 2 + 0 * x[2],
        [1.0, 2.0, 3.0],
        "saddle",
        (1, 1, 1),
        (
            "saddle: 1 negative and 1 positive direction, flat along 1 direction, unbounded below;"
            " the model is"
        ),
    ),
    (
        lambda x: x.sum() ** 2,
        [1.0, 2.0, 3.0],
        "flat valley",
        (0, 2, 1),
        "flat valley: rank 1, flat along 2 directions; ",
    ),
    (
        lambda x: x[0] ** 2 + x[1],
        [1.0, 2.0],
        "unbounded",
        (0, 1, 1),
        (
            "unbounded below: 0 negative and 1 positive direction; along 1 more H is zero to"
            " rounding and g is not: no point is stationary"
        ),
    ),
]


@pytest.mark.parametrize("dense", [True, False])
@pytest.mark.parametrize(
    ("f", "x", "kind", "inertia", "said"), STATIONARY, ids=[row[2] for row in STATIONARY]
)
def test_the_stationary_point_is_named(
    f: Any, x: list[float], kind: str, inertia: Any, said: str, dense: bool
) -> None:
    q = of(f, x, dense=dense)
    point = q.stationary_point()
    assert (point.kind, (point.negative, point.undecided, point.positive), point.complete) == (
        kind,
        inertia,
        True,
    )
    assert str(point).startswith(said)
    if point.vector is None:
        assert point.value == -float("inf")
    else:
        assert float((q.gradient + q.hessian @ point.vector).norm()) < 1e-12
        assert point.value == pytest.approx(float(q(point)), abs=1e-12)


def test_the_nearest_point_of_a_valley() -> None:
    q = of(lambda x: x.sum() ** 2, [1.0, 1.0, 1.0])
    assert q.stationary_point().vector is not None
    step = q.minimizer()
    assert torch.allclose(step.vector, -torch.ones(3).double())
    assert step.reason == "the nearest point of a flat valley of dimension 2"


def test_rounding_of_the_gradient_is_no_slope_of_a_valley() -> None:
    """At a minimum of rank-deficient least squares g is rounding, with parts along which H is
    zero."""
    x = steps(30, 4) @ steps(4, 10)
    target = x @ torch.ones(10, 1).double()
    q = of(
        lambda w: ((x @ w.reshape(-1, 1) - target) ** 2).sum(), [1.0 + 1e-3 * k for k in range(10)]
    )
    at_rest = hesse.quadratic(q.cost.at(q.cost.theta + q.minimizer().vector))
    point = at_rest.stationary_point()
    assert (point.kind, point.positive) == ("flat valley", 4)
    assert at_rest.trust_region(1.0).norm < 1e-9


def test_a_space_that_is_not_whole_says_so() -> None:
    q = hesse.quadratic(cost(), dense=False, products=5)
    point = q.stationary_point()
    assert not point.complete and point.negative + point.positive <= 10
    assert "at least" in str(point)


# ---------------------------------------------------------------- bad input


# As a user without runtime type checks calls it.
unwrapped: Any = inspect.unwrap(hesse.quadratic)


def model() -> Q:
    return hesse.quadratic(cost())


def at_a_kink(dense: bool) -> Q:
    """g = (0, 1.5), and H is infinite along the first parameter."""
    return of(lambda x: (x**1.5).sum(), [0.0, 1.0], dense=dense)


NAN = torch.full((32,), torch.nan).double()
REFUSED = [
    (
        lambda: unwrapped(network()),
        HesseTypeError,
        r"cost: expected a hesse.Cost, got Sequential: hesse.Cost\(",
    ),
    (
        lambda: hesse.quadratic(cost(), curvature="fishr"),
        HesseValueError,
        "curvature: expected one of 'hessian', .*, got 'fishr'; did you mean 'fisher'",
    ),
    (
        lambda: unwrapped(cost(), dense="no"),
        HesseTypeError,
        r"dense: expected True, False or None.*got 'no'",
    ),
    (
        lambda: hesse.quadratic(cost(), memory=0),
        HesseValueError,
        "memory: expected a whole number >= 1, got 0",
    ),
    (
        lambda: hesse.quadratic(cost(), products=0),
        HesseValueError,
        "products: expected a whole number >= 1, got 0",
    ),
    (
        lambda: of(lambda x: x.sqrt().sum(), [0.0, 1.0]),
        HesseValueError,
        r"cost: 1 of the 2 entries of its gradient in 'x'.*kink",
    ),
    (
        lambda: hesse.quadratic(of(lambda x: 1 / x.sum(), [1.0]).cost.at(torch.zeros(1))),
        HesseValueError,
        "its value is inf",
    ),
    (
        lambda: model()(steps(31)),
        HesseValueError,
        r"s: expected shape \(32,\), or \(32, K\) with steps as columns, got \(31,\)",
    ),
    (lambda: model()(steps(4, 32)), HesseValueError, r"got \(4, 32\); pass its transpose"),
    (
        lambda: model()(steps(32).float()),
        HesseTypeError,
        r"s: expected torch.float64 like the parameters, got torch.float32",
    ),
    (lambda: model()(NAN), HesseValueError, "s: 32 of its 32 entries are not finite"),
    (
        lambda: model()(steps(32).numpy()),
        HesseTypeError,
        r"s: expected a flat tensor of P = 32 entries.*got ndarray",
    ),
    (
        lambda: model()({"0.weight": steps(5, 3)}),
        HesseKeyError,
        r"missing \['0.bias', '2.weight', '2.bias'\]",
    ),
    (lambda: model().error({"x": steps(32)}), HesseKeyError, r"unknown \['x'\]"),
    (
        lambda: model().trust(steps(32, 2)),
        HesseValueError,
        r"direction: expected one step that is not zero, got shape \(32, 2\)",
    ),
    (
        lambda: model().trust(torch.zeros(32).double()),
        HesseValueError,
        "direction: expected one step.*got zeros",
    ),
    (
        lambda: model().trust(tolerance=0.0),
        HesseValueError,
        r"tolerance: expected a finite number > 0, got 0\.0",
    ),
    (
        lambda: model().trust_region(0.0),
        HesseValueError,
        r"radius: expected a finite number > 0, got 0\.0",
    ),
    (
        lambda: model().trust_region(float("inf")),
        HesseValueError,
        "radius: expected a finite number > 0, got inf",
    ),
    (
        lambda: model().trust_region(float("nan")),
        HesseValueError,
        "radius: expected a finite number > 0, got nan",
    ),
    (
        lambda: require_positive("1", "radius"),
        HesseTypeError,
        "radius: expected a number, got str",
    ),
    (lambda: model().cubic(-1.0), HesseValueError, r"M: expected a finite number > 0, got -1\.0"),
    (
        lambda: model().newton(-0.1),
        HesseValueError,
        r"damping: expected a finite number >= 0, got -0\.1",
    ),
    (
        lambda: model().levenberg_marquardt(0.0),
        HesseValueError,
        r"damping: expected a finite number > 0, got 0\.0",
    ),
    (
        lambda: model().saddle_free(-1.0),
        HesseValueError,
        r"damping: expected a finite number >= 0, got -1\.0",
    ),
    (
        lambda: model().negative_curvature(0.0),
        HesseValueError,
        r"length: expected a finite number > 0, got 0\.0",
    ),
    (
        lambda: hesse.quadratic(cost(), dense=False).eigh(),
        HesseValueError,
        r"eigh\(\): H is not built.*dense=True",
    ),
    (
        lambda: of(lambda x: x[0] ** 2 - 2 * x[1] ** 2, [1.0, 1.0]).newton(),
        HesseValueError,
        r"newton: H is indefinite: 1 negative, 0 undecided and 1 positive eigenvalues, the"
        r" smallest -4; newton\(damping=4\.4\) makes "
        r"it definite; or use trust_region\(radius\), cubic\(M\), saddle_free\(damping\)",
    ),
    (
        lambda: of(lambda x: x[0] ** 2 - 2 * x[1] ** 2, [1.0, 1.0]).newton(3.0),
        HesseValueError,
        (
            r"newton: H \+ 3 I is indefinite: 1 negative, 0 undecided and 1 positive eigenvalues,"
            r" the smallest -1; newton\(damping=4\.4\)"
        ),
    ),
    (
        lambda: of(lambda x: x.sum() ** 2, [1.0, 1.0]).newton(),
        HesseValueError,
        (
            r"newton: H is singular: 0 negative, 1 undecided and 1 positive eigenvalues, the"
            r" smallest 0; newton\(damping=0\.0004\)"
        ),
    ),
    (
        lambda: of(lambda x: x.sum(), [1.0]).newton(),
        HesseValueError,
        r"newton: H is singular.*damping=1\) makes",
    ),
    (
        lambda: of(lambda x: -(x**2).sum(), [1.0]).levenberg_marquardt(0.5),
        HesseValueError,
        (
            r"levenberg_marquardt: H \+ 0\.5 \|diag H\| is"
            r" indefinite.*levenberg_marquardt\(damping=1\.1\) makes it definite"
        ),
    ),
    (
        lambda: of(lambda x: x[0] ** 2 + x[1], [1.0, 1.0]).saddle_free(),
        HesseValueError,
        (
            r"saddle_free: \|H\| is singular.*damping=0\.0002\) makes it definite; or use"
            r" trust_region\(radius\), cubic\(M\)$"
        ),
    ),
    (
        lambda: of(lambda x: -(x**2).sum(), [1.0]).minimizer(),
        HesseValueError,
        (
            "minimizer: the model has no minimum, it curves down: H has 1 negative, 0 undecided and"
            " 0 positive eigenvalues; use"
        ),
    ),
    (
        lambda: of(lambda x: x[0] ** 2 + x[1], [1.0, 1.0]).minimizer(),
        HesseValueError,
        (
            "minimizer: the model has no minimum, it falls without end along directions in which H"
            " is zero"
        ),
    ),
    (
        lambda: of(lambda x: (x**2).sum(), [1.0]).negative_curvature(),
        HesseValueError,
        (
            r"negative_curvature: H has 0 negative, 0 undecided and 1 positive eigenvalues, the"
            r" smallest 2; there is no direction"
        ),
    ),
    (
        lambda: hesse.quadratic(cost(), dense=False, products=4).newton(),
        HesseValueError,
        (
            r"newton: H is indefinite: \d negative, 0 undecided and \d positive of 4 Ritz values in"
            r" a Krylov space.*as far as they show"
        ),
    ),
    *(
        (
            lambda ask=ask, dense=dense: ask(at_a_kink(dense)),
            HesseValueError,
            r"has entries that are not finite.*kink.*cost\.at",
        )
        for dense in (True, False)
        for ask in (
            lambda q: q.trust_region(1.0),
            lambda q: q.levenberg_marquardt(1.0),
            lambda q: q.stationary_point(),
            lambda q: q.trust(),
            lambda q: q(q.gradient),
            lambda q: q.error(q.gradient),
        )
    ),
]


def test_a_krylov_space_that_was_refused_is_refused_again() -> None:
    q = at_a_kink(dense=False)
    for _ in range(2):
        with pytest.raises(HesseValueError, match="has entries that are not finite"):
            q.newton()


@pytest.mark.parametrize(("call", "kind", "text"), REFUSED)
def test_refusals(call: Callable[[], Any], kind: type[HesseError], text: str) -> None:
    with pytest.raises(kind, match=text):
        call()


def test_the_damping_that_is_proposed_makes_it_definite() -> None:
    for q in (model(), of(lambda x: x.sum() ** 2, [1.0, 2.0])):
        for method in ("newton", "levenberg_marquardt"):
            with pytest.raises(HesseValueError) as refusal:
                getattr(q, method)(1e-30)
            proposed = float(str(refusal.value).split("damping=")[1].split(")")[0])
            assert getattr(q, method)(proposed).predicted >= 0
