"""Standard errors beside statsmodels, and beside closed forms."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import statsmodels.api
import torch
from sklearn.linear_model import LogisticRegression
from torch import nn

import hesse
from hesse import HesseError

# Without its annotations, which know no weights of samples.
sm: Any = statsmodels.api
RANDOM = np.random.default_rng(0)
N = 60
X = RANDOM.normal(size=(N, 3))
DESIGN = np.column_stack([X, np.ones(N)])  # in the order of a layer's weight and bias
ETA = DESIGN @ [0.4, -0.3, 0.2, 0.1]
REAL = ETA + RANDOM.standard_t(4, size=N) * (1 + np.abs(X[:, 0]))
BINARY, COUNTS = (
    (RANDOM.random(N) < 1 / (1 + np.exp(-ETA))).astype(int),
    RANDOM.poisson(np.exp(ETA)),
)
THREE = RANDOM.integers(3, size=N)
WEIGHTS = RANDOM.uniform(0.5, 2.0, N)
NEWTON = dict(method="newton", tol=1e-14, maxiter=100, disp=0)


def linear(coefficients: Any, outputs: int = 1) -> nn.Module:
    """A layer with these coefficients, a row for each output; of one output a vector."""
    rows = torch.tensor(np.reshape(coefficients, (outputs, 4)))
    layer = nn.Linear(3, outputs).double()
    layer.load_state_dict({"weight": rows[:, :3], "bias": rows[:, 3]})
    return nn.Sequential(layer, nn.Flatten(0)) if outputs == 1 else layer


def glm(family: Any, y: Any, **options: Any) -> Any:
    return sm.GLM(y, DESIGN, family=family, **options).fit(method="newton", tol=1e-14, disp=0)


# By name: what statsmodels fits, the loss, the targets and weights, the covariance.
FITS: dict[str, tuple[Callable[[], Any], str, Any, str]] = {
    "least squares": (lambda: sm.OLS(REAL, DESIGN).fit(), "mse", (REAL,), "hessian"),
    "half of them": (lambda: sm.OLS(REAL, DESIGN).fit(), "half_sse", (REAL,), "hessian"),
    "least squares, sandwich": (
        lambda: sm.OLS(REAL, DESIGN).fit().get_robustcov_results("HC0"),
        "mse",
        (REAL,),
        "sandwich",
    ),
    "weighted": (
        lambda: sm.WLS(REAL, DESIGN, weights=WEIGHTS).fit(),
        "mse",
        (REAL, WEIGHTS),
        "hessian",
    ),
    "weighted, sandwich": (
        lambda: sm.WLS(REAL, DESIGN, weights=WEIGHTS).fit().get_robustcov_results("HC0"),
        "mse",
        (REAL, WEIGHTS),
        "sandwich",
    ),
    "logistic": (lambda: sm.Logit(BINARY, DESIGN).fit(**NEWTON), "bce", (BINARY,), "hessian"),
    "logistic, sandwich": (
        lambda: sm.Logit(BINARY, DESIGN).fit(cov_type="HC0", **NEWTON),
        "bce",
        (BINARY,),
        "sandwich",
    ),
    "counts": (
        lambda: sm.Poisson(COUNTS, DESIGN).fit(**NEWTON),
        "poisson_nll_loss",
        (COUNTS,),
        "hessian",
    ),
    "counts, sandwich": (
        lambda: sm.Poisson(COUNTS, DESIGN).fit(cov_type="HC0", **NEWTON),
        "poisson_nll_loss",
        (COUNTS,),
        "sandwich",
    ),
    "counts, weighted": (
        lambda: glm(sm.families.Poisson(), COUNTS, freq_weights=WEIGHTS),
        "poisson_nll_loss",
        (COUNTS, WEIGHTS),
        "hessian",
    ),
}


@pytest.mark.parametrize(("fit", "loss", "y", "covariance"), FITS.values(), ids=FITS)
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_they_are_those_of_statsmodels(
    fit: Callable[[], Any], loss: str, y: Any, covariance: str, level: float
) -> None:
    theirs = fit()
    cost = hesse.Cost(linear(theirs.params), loss, (X, *y))
    ours = hesse.standard_errors(cost, covariance=covariance, level=level)
    low, high = np.asarray(theirs.conf_int(alpha=1 - level)).T
    for mine, other in (
        (ours.estimates, theirs.params),
        (ours.errors, theirs.bse),
        (ours.statistics, theirs.tvalues),
        (ours.p_values, theirs.pvalues),
        (ours.lower, low),
        (ours.upper, high),
        (np.asarray(ours.covariance), theirs.cov_params()),
    ):
        np.testing.assert_allclose(mine, np.asarray(other), rtol=1e-9, atol=1e-12)
    assert (ours.degrees is None) == (loss in ("bce", "poisson_nll_loss"))
    assert ours.decrement < 1e-6


def test_two_targets_share_their_variance() -> None:
    Y = np.stack([REAL, ETA + RANDOM.normal(size=N)], 1)
    B = np.linalg.lstsq(DESIGN, Y, rcond=None)[0]
    found = hesse.standard_errors(hesse.Cost(linear(B.T, 2), "mse", (X, Y)))
    variance = np.square(Y - DESIGN @ B).sum() / (2 * N - 8)
    expected = np.sqrt(variance * np.diag(np.linalg.inv(DESIGN.T @ DESIGN)))
    assert found.degrees == 2 * N - 8 and found.dispersion == pytest.approx(variance)
    np.testing.assert_allclose(found["weight"].errors, np.tile(expected[:3], (2, 1)), rtol=1e-9)
    np.testing.assert_allclose(found["bias"].errors, expected[3].repeat(2), rtol=1e-9)


def test_a_function_of_ones_own_is_taken_for_minus_log_p() -> None:
    fit = sm.Logit(BINARY, DESIGN).fit(**NEWTON)
    given = lambda z, y: torch.nn.functional.binary_cross_entropy_with_logits(z, y.double())  # noqa: E731
    found = hesse.standard_errors(hesse.Cost(linear(fit.params), given, (X, BINARY)))
    np.testing.assert_allclose(found.errors, fit.bse, rtol=1e-9)
    assert found.notes == ("the loss is a function of your own, and taken for -log p",)

    def f(p: dict[str, torch.Tensor]) -> torch.Tensor:
        return -torch.distributions.Normal(p["mean"], 2.0).log_prob(torch.tensor(REAL)).sum()

    mean = {"mean": torch.tensor(REAL.mean())}
    (error,) = hesse.standard_errors(hesse.Cost.from_function(f, mean)).errors
    assert error == pytest.approx(2 / N**0.5)


def test_the_hessian_of_a_model_of_scikit_learn() -> None:
    """The recipe of docs/standard-errors.md: −log p is XᵀDX, and the penalty adds 1 / C."""
    fitted = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(X, BINARY)
    net = linear([*fitted.coef_[0], fitted.intercept_[0]])
    H = hesse.hessian(hesse.Cost(net, nn.BCEWithLogitsLoss(reduction="sum"), (X, BINARY)))
    p = fitted.predict_proba(X)[:, 1]
    np.testing.assert_allclose(np.asarray(H), (DESIGN.T * (p * (1 - p))) @ DESIGN, rtol=1e-12)

    def penalty(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return parameters["0.weight"].square().sum() / (2 * fitted.C)

    loss = nn.BCEWithLogitsLoss(reduction="sum")
    cost = hesse.Cost(net, loss, (X, BINARY), penalty=penalty)
    assert max(g.abs().max() for g in hesse.gradient(cost).values()) < 1e-6
    np.testing.assert_allclose(
        np.asarray(hesse.hessian(cost)), np.asarray(H) + np.diag([2.0, 2.0, 2.0, 0.0]), rtol=1e-12
    )


# ---------------------------------------------------------------- the table


@pytest.fixture(scope="module")
def found() -> hesse.StandardErrors:
    fit = sm.OLS(REAL, DESIGN).fit()
    return hesse.standard_errors(hesse.Cost(linear(fit.params), "mse", (X, REAL)))


def test_a_parameter_is_found_by_its_name(found: hesse.StandardErrors) -> None:
    assert list(found) == ["0.weight", "0.bias"] and len(found) == 2 and "0.bias" in found
    assert found["0.weight"].errors.shape == (1, 3)
    assert np.array_equal(found["0.weight"].errors[0], found.errors[:3])
    with pytest.raises(HesseError, match=r"no parameter is named 'wait'.*'0.weight'"):
        found["wait"]


def test_the_table_in_every_form(found: hesse.StandardErrors) -> None:
    head, *rows = str(found).splitlines()
    assert head.split() == ["parameter", "estimate", "std.", "error", "t", "p", "95%", "from", "to"]
    assert len(rows) == 4 and rows[1].startswith("0.weight[0, 1]")
    table = found.to_pandas()
    assert np.array_equal(table.loc[("0.weight", "0, 2"), "std. error"], found.errors[2])
    assert len(repr(found).splitlines()) <= 24 and "Student's t, 56 degrees" in repr(found)
    assert found._repr_html_().count("<tr>") >= 5
    with pytest.raises(AttributeError):
        found.level = 0.5  # type: ignore[misc]


def test_they_are_the_roots_of_the_covariance(found: hesse.StandardErrors) -> None:
    variance = found.covariance.diagonal()["0.weight"].numpy()
    np.testing.assert_allclose(np.sqrt(variance), found["0.weight"].errors)


# ---------------------------------------------------------------- what is refused


def of(loss: Any, y: Any, outputs: int = 1, **options: Any) -> hesse.Cost:
    return hesse.Cost(linear(np.zeros(4 * outputs), outputs), loss, (X, *y), **options)


def softmax() -> hesse.Cost:
    p = torch.tensor(np.bincount(THREE) / N).log()
    return hesse.Cost(
        lambda parameters, x: parameters["scores"].expand(len(x), 3),
        "cross_entropy",
        (X, THREE),
        params={"scores": p},
    )


def collinear() -> hesse.Cost:
    twice = np.column_stack([X, X[:, 0]])
    b = np.linalg.lstsq(twice, REAL, rcond=None)[0]
    w = {"w": torch.tensor(b)}
    return hesse.Cost(lambda p, x: x @ p["w"], "mse", (twice, REAL), params=w)


def saddle() -> hesse.Cost:
    params = {"u": torch.zeros(2).double()}
    return hesse.Cost.from_function(lambda p: p["u"][0] ** 2 - 3 * p["u"][1] ** 2, params)


REFUSED: dict[str, tuple[Callable[[], hesse.Cost], str]] = {
    "a penalty": (lambda: of("mse", (REAL,), penalty=0.1), "with its penalty it is no negative"),
    "a hinge": (lambda: of(nn.HingeEmbeddingLoss(), (2 * BINARY - 1,)), "hinge_embedding_loss is"),
    "absolute values": (lambda: of("l1_loss", (REAL,)), "l1_loss is no negative log-likelihood"),
    "weights of a label": (
        lambda: of(nn.BCEWithLogitsLoss(pos_weight=torch.tensor(2.0).double()), (BINARY,)),
        "with pos_weight= is no negative log-likelihood",
    ),
    "smoothed labels": (
        lambda: of(nn.CrossEntropyLoss(label_smoothing=0.1), (THREE,), 3),
        "with label_smoothing= is no",
    ),
    "coupled samples": (lambda: of(lambda p, y: (p - y).norm(), (REAL,)), "couples its samples"),
    "weights of several values": (
        lambda: of("mse", (np.stack([REAL, REAL], 1), WEIGHTS), 2),
        "mean over the values that are predicted",
    ),
    "as many parameters as values": (
        lambda: hesse.Cost(linear(np.zeros(4)), "mse", (X[:4], REAL[:4])),
        "4 parameters of 4 values leave nothing",
    ),
    "an exact fit": (lambda: of("mse", (np.zeros(N),)), "fits the data exactly"),
    "not at a minimum": (
        lambda: of("mse", (REAL + 10,)),
        r"a Newton step would move the estimates by up to [\d.]+ standard errors .*hesse.minimize",
    ),
    "a softmax": (
        softmax,
        r"0 to rounding, along scores\[0\] \(\+0.58\), scores.*hold one class fixed",
    ),
    "collinear columns": (
        collinear,
        r"0 to rounding, along w\[[03]\] \(\+0.71\), w\[[03]\] \(-0.71\), and the data do not tell",
    ),
    "a saddle": (saddle, r"eigenvalue is -6, along u\[1\] \(\+1.00\), and it is a saddle"),
}


@pytest.mark.parametrize(("cost", "said"), REFUSED.values(), ids=REFUSED)
def test_what_has_no_standard_errors_is_refused(cost: Callable[[], hesse.Cost], said: str) -> None:
    with pytest.raises(HesseError, match=said):
        hesse.standard_errors(cost())


def test_units_do_not_matter() -> None:
    units = np.array([1e-5, 1.0, 1e6])
    fit = sm.OLS(REAL, DESIGN).fit()
    scaled = linear(fit.params / np.append(units, 1.0))
    found = hesse.standard_errors(hesse.Cost(scaled, "mse", (X * units, REAL)))
    np.testing.assert_allclose(found.errors * np.append(units, 1.0), fit.bse, rtol=1e-9)


def test_minimising_comes_there() -> None:
    cost = of("bce", (BINARY,))
    with pytest.raises(HesseError, match=r"take hesse\.minimize\(cost\)\.cost"):
        hesse.standard_errors(cost)
    found = hesse.standard_errors(hesse.minimize(cost).cost)
    np.testing.assert_allclose(found.errors, sm.Logit(BINARY, DESIGN).fit(**NEWTON).bse, rtol=1e-4)
