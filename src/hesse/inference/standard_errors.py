"""Standard errors of the parameters at a minimum, from the inverse Hessian or its sandwich."""

from typing import Any, get_args

import numpy as np
import torch
from scipy import special
from torch import Tensor

from hesse.cost import Cost, require_cost
from hesse.errors import HesseValueError, require_number, require_word
from hesse.evaluation import gradient
from hesse.exact.hessian import hessian
from hesse.inference.definite import inverse_at_minimum
from hesse.inference.estimates import StandardErrors
from hesse.inference.likelihood import likelihood_of_cost
from hesse.losses.weighed import known_within
from hesse.matrix.block_hessian import BlockHessian
from hesse.process.memory import enough_memory
from hesse.samples.per_sample import per_sample
from hesse.words import CovarianceKind
from hesse.words.shapes import Float

# Of a standard error: by so much a Newton step may move what is taken for the estimates.
_NEAR = 0.1


@enough_memory("ask about fewer parameters, params= of the cost")
def standard_errors(
    cost: Cost, *, covariance: CovarianceKind | str = "hessian", level: float = 0.95
) -> StandardErrors:
    """What the curvature at a minimum says of the parameters as estimates: their standard errors,
    whether they are zero, and the intervals that hold them.

    The cost is read as a negative log-likelihood, L(θ) = −Σ_n log p(y_n | x_n, θ), whatever its
    mean divides by, and the covariance of its minimum is estimated by

        Σ = A⁻¹            A = ∂²L/∂θ∂θ                       ``"hessian"``
        Σ = A⁻¹ B A⁻¹      B = Σ_n g_n g_nᵀ, g_n = ∂ℓ_n/∂θ    ``"sandwich"`` (HC0)

    The sandwich holds where the model is not the true one. Squares are of normal errors with the
    variance σ² = RSS / (N − P), and t = θ̂ / se has N − P degrees of freedom; of any other
    likelihood z = θ̂ / se is normal. Weights of samples count as repetitions do; of squares they
    divide the variances.

    Args:
        cost: at its minimum: of squares (``"mse"``, ``"half_sse"``), ``"cross_entropy"``,
            ``"bce"``, ``"poisson_nll_loss"``, ``"gaussian_nll_loss"``, ``"nll_loss"``, or of a
            function of yours, which is taken for −log p. In float64 the digits are better.
        covariance: from the Hessian alone, or from the sandwich.
        level: of the intervals.

    Raises:
        HesseValueError: a cost with a penalty, or of a loss that is no likelihood; one that is not
            near its minimum: its Newton decrement √(gᵀA⁻¹g) is the number of standard errors by
            which a Newton step would move the estimates, in the direction that moves most, and may
            be 0.1; or a Hessian that is not positive definite, with the direction that the data do
            not determine.
        HesseMemoryError: the Hessian does not fit.

    Source: H. White, A heteroskedasticity-consistent covariance matrix estimator and a direct test
    for heteroskedasticity, Econometrica 48 (1980), eq. 4, and Maximum likelihood estimation of
    misspecified models, Econometrica 50 (1982), theorem 3.2. W. H. Greene, Econometric Analysis
    (2012), ch. 14.

    Examples:
        >>> import torch, hesse
        >>> x, y = torch.arange(5.0).double(), torch.tensor([0.0, 1.0, 2.0, 4.0, 4.0]).double()
        >>> line = lambda p, x: p["a"] + p["b"] * x
        >>> params = {"a": torch.tensor(0.0).double(), "b": torch.tensor(1.1).double()}
        >>> print(hesse.standard_errors(hesse.Cost(line, "mse", (x, y), params=params)))
        parameter  estimate  std. error  t      p        95% from  to
        a          0         0.3742      0      1        -1.191    1.191
        b          1.1       0.1528      7.201  0.00552  0.6139    1.586
    """
    require_cost(cost)
    require_word(covariance, "covariance", get_args(CovarianceKind))
    level = require_number(level, "level")
    if not 0 < level < 1:
        raise HesseValueError(f"level: expected a number between 0 and 1, got {level}")
    likelihood = likelihood_of_cost(cost)
    H = hessian(cost).dense().double()
    known = None if cost.loss is None else known_within(cost.loss)
    softmax = known is not None and known[0] in ("cross_entropy", "nll_loss")
    inverse = inverse_at_minimum(H, torch.finfo(cost.dtype).eps, cost.layout, softmax)
    decrement = _decrement(cost, inverse, likelihood.factor)
    found = inverse / likelihood.factor
    if covariance == "sandwich":
        S = inverse @ _outer_products(cost) @ inverse
        found = (S + S.mT) / 2
    estimates = cost.theta.double().cpu().numpy()
    errors = found.diagonal().sqrt().cpu().numpy()
    statistics = estimates / errors
    quantile = _quantile((1 + level) / 2, likelihood.degrees)
    return StandardErrors(
        layout=cost.layout,
        estimates=estimates,
        errors=errors,
        statistics=statistics,
        p_values=_two_sided(statistics, likelihood.degrees),
        lower=estimates - quantile * errors,
        upper=estimates + quantile * errors,
        covariance=BlockHessian(
            cost.layout, matrix=found, provenance={"what": f"the covariance of {cost!r}"}
        ),
        kind=str(covariance),
        level=level,
        samples=cost.samples,
        degrees=likelihood.degrees,
        dispersion=likelihood.dispersion,
        decrement=decrement,
        notes=likelihood.notes,
    )


def _decrement(cost: Cost, inverse: Float[Tensor, "P P"], factor: float) -> float:
    """√(gᵀA⁻¹g) of L, where it is small.

    Raises:
        HesseValueError: it is not.
    """
    g = cost.layout.flatten(gradient(cost)).double()
    decrement = float((factor * (g @ inverse @ g)).clamp(min=0).sqrt())
    if not decrement <= _NEAR:
        raise HesseValueError(
            "cost: it is not at its minimum: a Newton step would move the estimates by up to"
            f" {decrement:.2g} standard errors (the Newton decrement, where {_NEAR:g} may be); take"
            " hesse.minimize(cost).cost, or train on"
        )
    return decrement


def _outer_products(cost: Cost) -> Float[Tensor, "P P"]:
    """Σ_n g_n g_nᵀ of the samples' shares of the cost."""
    size = cost.layout.size
    total = torch.zeros(size, size, dtype=torch.float64, device=cost.device)
    for shares in per_sample(cost):
        g = torch.cat([shares[name].flatten(1) for name in cost.layout.names], 1).double()
        total.addmm_(g.mT, g)
    return total


def _two_sided(statistics: np.ndarray, degrees: int | None) -> np.ndarray:
    """P(|T| > |t|) of Student's t, or of the normal distribution."""
    tails: Any = -np.abs(statistics)
    return 2 * (special.ndtr(tails) if degrees is None else special.stdtr(degrees, tails))


def _quantile(probability: float, degrees: int | None) -> float:
    return float(
        special.ndtri(probability) if degrees is None else special.stdtrit(degrees, probability)
    )
