"""Sums over the spectrum by quadratic forms of random vectors, the large eigenvalues taken out.

For orthonormal Q and random g orthogonal to it, of length √(P − r), r the columns of Q,

    tr B = tr QᵀBQ + E gᵀBg,    B = A or A²

The variance is 2 ‖B‖_F² of what is left beside Q, and little where Q has the few large
eigenvalues. Q comes from Lanczos' steps, of which each takes one product and brings QᵀAQ with it.
The first probes are drawn before and are made orthogonal to Q as it grows; a step is taken as long
as steps save more probes than they cost.

Source: R. A. Meyer, C. Musco, C. Musco and D. Woodruff, Hutch++: optimal stochastic trace
estimation, SOSA (2021); the balance of D. Persson, A. Cortinovis and D. Kressner, Improved variants
of the Hutch++ algorithm for trace estimation, SIAM J. Matrix Anal. Appl. 43 (2022), 1162; Krylov
spaces of T. Chen and E. Hallman, Krylov-aware stochastic trace estimation, ibid. 44 (2023), 1218.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from hesse.linear_operators.inner_products import inner_products, length
from hesse.process.memory import allowed_memory
from hesse.process.progress import StatusLine
from hesse.spectra.accuracy import LEAST_PROBES, Accuracy, random_vectors, student
from hesse.spectra.basis import Basis
from hesse.spectra.estimate import Estimate
from hesse.spectra.products import Products
from hesse.words.shapes import Float

# Over so many steps it is seen what they bring: the first find nothing yet.
_WINDOW = 5
# Probes that are multiplied together.
_TOGETHER = 16
# Vectors beside the basis: the first probes and their products, and what is in work.
_BESIDE = 2 * LEAST_PROBES + 4
_MOST_STEPS = 500


@final
@dataclass(frozen=True)
class Samples:
    """What probes g of length √(P − r) gave: gᵀBg, ‖A g‖², both beside the basis, and the mean of
    (gᵀCh)² for the first ones, by pairs, C being A² less its mean eigenvalue."""

    forms: Float[Tensor, " n"]
    squares: Float[Tensor, " n"]
    pairs: float = 0.0


@final
@dataclass(frozen=True)
class Form:
    """A quadratic form B of A.

    Attributes:
        name: what it sums to.
        inside: what a step adds to the sum in the basis, from β² and α of Lanczos' recurrence.
        gain: what it takes from ‖B‖_F² outside, from the same.
        power: of A in it, which is that of a unit.
        variance: of a sample, from some, in a space of so many dimensions.
    """

    name: str
    inside: Callable[[float, float], float]
    gain: Callable[[float, float], float]
    power: int
    variance: Callable[[Samples, int], float]


def _of_trace(samples: Samples, size: int) -> float:
    # On a sphere; the mean square of A g is far less noisy than the samples' own variance.
    square = float(samples.squares.mean()) - float(samples.forms.mean()) ** 2 / size
    return 2 * size / (size + 2) * max(0.0, square)


def _of_squared_norm(samples: Samples, size: int) -> float:
    # Of few samples either may miss what is large; and as squares are skewed, what is too small is
    # so together with its variance.
    skewed = 1 + 4 / len(samples.forms)
    return skewed * max(float(samples.forms.var()), 2 * size / (size + 2) * samples.pairs)


TRACE = Form(
    "trace",
    lambda beyond, along: along,
    lambda beyond, along: 2 * beyond + along**2,
    1,
    _of_trace,
)
SQUARED_NORM = Form(
    "squared norm",
    lambda beyond, along: 2 * beyond + along**2,
    lambda beyond, along: (2 * beyond + along**2) ** 2,
    2,
    _of_squared_norm,
)


def estimated(form: Form, product: Products, size: int, accuracy: Accuracy) -> Estimate:
    """tr B, to the accuracy that is asked for or as far as the products go."""
    with StatusLine(accuracy.progress) as line:
        run = _Deflated(form, product, size, accuracy)

        def show() -> None:
            if line.due:
                value, error = run.value_and_error()
                line.show(f"{form.name}: {value:.4g} ± {error:.1g}, {product.count} products")

        while run.wants_step():
            run.step()
            show()
        while (more := run.wanted()) > 0:
            run.probe(more)
            show()
        return run.estimate()


class _Deflated:
    """The probes, and the basis that they are orthogonal to."""

    def __init__(self, form: Form, product: Products, size: int, accuracy: Accuracy) -> None:
        self._form, self._product, self._accuracy, self._size = form, product, accuracy, size
        self._random = accuracy.generator()
        like = product.like.new_empty(size)
        held = (
            allowed_memory(accuracy.memory, like.device) // max(1, size * like.itemsize) - _BESIDE
        )
        self._most = max(0, min(held, _MOST_STEPS, size - LEAST_PROBES))
        self._basis = Basis(like, min(self._most, _MOST_STEPS))
        # Drawn before the basis is, which does not depend on them.
        self._probes = self._normalized(random_vectors(LEAST_PROBES, like, self._random), size)
        self._products = product.rows(self._probes)
        self._later: list[Samples] = []
        self._inside, self._gains = 0.0, list[float]()
        self._next = self._normalized(random_vectors(1, like, self._random), 1)[0]

    def wants_step(self) -> bool:
        """Whether a step is likely to save more probes than it costs."""
        if self._basis.count >= self._most or self._product.left <= 1:
            return False
        missing, target = self._missing_and_target()
        if missing <= 0 or len(self._gains) < _WINDOW:
            return missing > _WINDOW
        saved = 2 * sum(self._gains[-_WINDOW:]) / _WINDOW / target**2 if target > 0 else math.inf
        return saved > 1

    def step(self) -> None:
        """One vector more in the basis; the first probes are made orthogonal to it."""
        q = self._next
        Aq = self._product(q)
        self._basis.append(q)
        along = inner_products(self._probes, q[None])[:, 0].to(q.dtype)
        # A (g − q qᵀg) = A g − A q (qᵀg).
        self._probes -= along.unsqueeze(1) * q
        self._products -= along.unsqueeze(1) * Aq
        rest = Aq.clone()
        across = self._basis.orthogonalized(rest)
        beyond = length(rest)
        # What joins the basis with the rest is in A² twice, and known when it comes.
        self._inside += self._form.inside(beyond**2, float(across[-1]))
        self._gains.append(self._form.gain(beyond**2, float(across[-1])))
        if beyond <= 10 * torch.finfo(q.dtype).eps * length(Aq):
            # An invariant space: the next begins anywhere.
            rest = self._new(1)[0]
        self._next = rest / length(rest)

    def probe(self, count: int) -> None:
        """So many samples more."""
        probes = self._normalized(self._new(count), self._size - self._basis.count)
        self._later.append(self._sampled(probes, self._product.rows(probes)))

    def wanted(self) -> int:
        """How many probes to take next."""
        missing, _ = self._missing_and_target()
        return max(0, math.ceil(min(missing, self._product.left, _TOGETHER)))

    def value_and_error(self) -> tuple[float, float]:
        """In units."""
        samples, size = self._samples(), self._size - self._basis.count
        count = len(samples.forms)
        error = student(count) * math.sqrt(self._form.variance(samples, size) / count)
        return self._inside + float(samples.forms.mean()), error

    def estimate(self) -> Estimate:
        """What was found."""
        value, error = self.value_and_error()
        unit, target = self._unit, self._target(value)
        probes, steps = self._count, self._basis.count
        notes = ()
        if error > target * (1 + 1e-9):
            notes = (
                f"{self._product.count} products did not do for a standard error of"
                f" {unit * target:.2g}; products= allows more",
            )
        how = f"by {probes} probes" + (f" beside {steps} of Lanczos' steps" if steps else "")
        return Estimate(unit * value, unit * error, self._product.count, how, notes=notes)

    @property
    def _unit(self) -> float:
        return math.prod([self._product.unit] * self._form.power)

    @property
    def _count(self) -> int:
        """How many probes there are."""
        return LEAST_PROBES + sum(len(part.forms) for part in self._later)

    def _target(self, value: float) -> float:
        """The standard error to reach for this value, both in units."""
        if self._accuracy.error is not None:
            return self._accuracy.error / self._unit
        return self._accuracy.target(value)

    def _missing_and_target(self) -> tuple[float, float]:
        """How many probes more it takes by what is seen of their variance, for which error."""
        value, error = self.value_and_error()
        target, count = self._target(value), self._count
        if error <= target:
            return 0, target
        return count * (error / target) ** 2 - count if target > 0 else math.inf, target

    def _samples(self) -> Samples:
        """All of them."""
        parts = [self._sampled(self._probes, self._products), *self._later]
        squares, size = torch.cat([part.squares for part in parts]), self._size - self._basis.count
        scale = (size / self._probes.square().sum(1)).double()
        # On a sphere a multiple of I varies not at all.
        gram = inner_products(self._products, self._products)
        gram -= float(squares.mean()) / size * inner_products(self._probes, self._probes)
        gram = gram.square() * scale * scale.unsqueeze(1)
        pairs = gram.fill_diagonal_(0).sum() / (LEAST_PROBES * (LEAST_PROBES - 1))
        return Samples(torch.cat([part.forms for part in parts]), squares, float(pairs))

    def _sampled(self, probes: Float[Tensor, "n P"], products: Float[Tensor, "n P"]) -> Samples:
        """Of probes beside the basis, as if they were of the right length."""
        scale = (self._size - self._basis.count) / probes.square().sum(1)
        squares = products.square().sum(1)
        if self._basis.count:
            # Of the basis A g has a part along the last vector alone: Lanczos' recurrence.
            last = self._basis[self._basis.count - 1][None]
            squares = squares - inner_products(products, last)[:, 0].square()
        squares = (squares * scale).double().cpu()
        if self._form.power == 2:
            return Samples(squares, squares)
        return Samples(((probes * products).sum(1) * scale).double().cpu(), squares)

    def _new(self, count: int) -> Float[Tensor, "count P"]:
        """Random vectors beside the basis."""
        drawn = random_vectors(count, self._basis.like, self._random)
        if self._basis.count:
            self._basis.orthogonalized(drawn)
        return drawn

    def _normalized(self, rows: Float[Tensor, "n P"], square: float) -> Float[Tensor, "n P"]:
        """Rows of this squared length."""
        return rows * (math.sqrt(square) / rows.norm(dim=1, keepdim=True))
