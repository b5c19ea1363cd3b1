"""The Hessian as something to multiply with, without its matrix."""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any, final

import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.certificates.product import certify_product
from hesse.certificates.soundness import require_sound
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.display import Fact, facts
from hesse.distributed.group import gathered, summed, together
from hesse.distributed.shares import share_of
from hesse.errors import (
    HesseValueError,
    readable_bytes,
    require_flags,
)
from hesse.linear_operators.linear_operator import SymmetricOperator
from hesse.process.memory import allowed_memory, enough_memory, zeros
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed
from hesse.products.linearize import exclude_fastest, linearize
from hesse.products.linearized import LinearizedTerm
from hesse.products.planning import OperatorPlan
from hesse.products.terms import batch_term, penalty_term
from hesse.words import CurvatureName
from hesse.words.shapes import Float

# A batch is differentiated as a whole.
_ADVICE = "give the data in smaller batches, or keep less of them with memory="


@enough_memory(_ADVICE)
@undisturbed()
@quiet()
def operator(
    cost: Cost,
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    memory: int | None = None,
    certify: bool = True,
) -> "HessianOperator":
    """The Hessian of a cost as a linear operator: H v for any v, at about the price of one and a
    half gradients.

        H v = d/dε ∇J(θ + ε v) at ε = 0,    J = Σ_batches + penalty

    What does not depend on v is computed here, once per batch, and kept while it fits. The first
    operator of a cost traces its product (up to a second or two); the next ones, also at other θ,
    find it traced.

    Args:
        cost: the cost.
        curvature: what of the second derivatives: ``"hessian"``, all of them; ``"gauss_newton"``;
            ``"functional"``, what the first has beside the second; or another `Curvature`.
        memory: bytes to use, half for what is kept and half for the columns of a matrix that are
            multiplied together. By default half of what is free. Batches that do not fit, beside
            the work with one of them, are computed again in every product; what a single batch
            takes beyond it is said in ``notes``.
        certify: hold one product, here and now, against double backward of the function as given,
            on all the data. A method that is wrong is left for the next slower one.

    Raises:
        HesseTypeError: not a cost, or memory that is not a whole number.
        HesseValueError: a negative memory, or a cost that PyTorch cannot differentiate twice, or
            gets wrong.
        HesseMemoryError: a single batch takes more than is free.

    Source:
        B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
        147.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: p["x"].prod(), {"x": torch.tensor([2.0, 3.0])}
        ... )
        >>> hesse.operator(cost) @ torch.tensor([1.0, 0.0])
        tensor([0., 1.])
    """
    given = cost_with_curvature(cost, curvature)
    cost = given.curved
    require_flags(certify=certify)
    room = allowed_memory(memory, cost.device)
    if not certify:
        return HessianOperator(given, cost, room)
    notes = require_sound(cost)
    # Every turn excludes a method, so that this ends.
    while True:
        product = HessianOperator(given, cost, room)
        verdict = certify_product(cost, lambda v, product=product: product @ v, notes)
        if verdict.undefined:
            _require_defined(cost, verdict.undefined)
        if not verdict.wrong:
            product.certificate = verdict.certificate
            return product
        name, difference = next(iter(verdict.wrong.items()))
        reason = f"{difference}, of the part of H v of {name!r}"
        left = exclude_fastest(cost, product.methods, reason)
        if not any(gathered("methods that are left", lambda left=left: left)):
            raise HesseValueError(
                f"cost: its products cannot be certified: every method {reason}. Is the model"
                " random?"
            )


def _require_defined(cost: Cost, names: tuple[str, ...]) -> None:
    raise HesseValueError(
        f"cost: H v has entries that are not finite, for {', '.join(map(repr, names[:3]))}, by"
        " double backward too. The cost has a kink or a pole at these parameters (a root, a norm"
        " or a logarithm at zero?), without a second derivative there; move them with"
        " cost.at(...), smooth it, or leave those out with params="
    )


@final
class HessianOperator(SymmetricOperator):
    """H of a cost, as an operator; made by `hesse.operator`.

    ``H @ v`` takes a flat vector (P,), a matrix (P, K), a dictionary {name: Tensor} or a list of
    tensors and returns the same kind, detached. H is symmetric and holds the penalty; what else
    one can do with it is said at `LinearOperator`.

    Attributes:
        cost: the cost that it belongs to.
        notes: what could not be done the best way, and why.
        methods: how products are taken.
        certificate: what a product was held against; ``None`` where it was not.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(lambda p: p["x"].square().sum(), {"x": torch.ones(3)})
        >>> H = hesse.operator(cost)
        >>> H.shape, H @ {"x": torch.tensor([1.0, 0.0, 2.0])}
        ((3, 3), {'x': tensor([2., 0., 4.])})
    """

    def __init__(self, cost: Cost, curved: Cost, memory: int) -> None:
        super().__init__(cost.layout, cost.dtype, cost.device)
        # What products are taken of is another cost where the curvature has something else in
        # place of the loss.
        self.cost, self._curved, self._memory = cost, curved, memory
        self.certificate: Certificate | None = None
        self.methods, self.notes = self._kept.methods, (*curved.notes, *self._kept.notes)

    @cached_property
    def _share(self) -> Cost:
        """What of the cost this process multiplies with."""
        return share_of(self._curved)

    @cached_property
    def _kept(self) -> "_Kept":
        share = self._share
        kept = together("an operator", lambda: _keep(share, self._memory))
        every = gathered("its methods", lambda: (kept.methods, kept.notes))
        methods, notes = (tuple(dict.fromkeys(chain(*each))) for each in zip(*every, strict=True))
        return replace(kept, methods=methods, notes=notes)

    # Programs and graphs do not travel, nor does a share: a copy makes them when it is first
    # multiplied with.
    def __getstate__(self) -> dict[str, Any]:
        return {name: held for name, held in vars(self).items() if name not in ("_kept", "_share")}

    @property
    def bytes(self) -> int:
        """What is kept from one product to the next."""
        kept = self._kept
        return sum(linear.bytes for linear in (kept.penalty, *kept.batches) if linear is not None)

    @property
    def peak_bytes(self) -> float:
        """What making it, with its certificate, and a product with one v take at the most beyond
        what was there, an estimate by shapes."""
        return self._kept.peak_bytes

    @property
    def _size(self) -> str:
        return f"{self.cost}, {str(self.dtype).removeprefix('torch.')}"

    def _parts_of_it(self) -> tuple[Fact, ...]:
        batches = self._kept.batches
        count, kept = len(batches), sum(linear is not None for linear in batches)
        several = "es" * (count != 1)
        return facts(
            products=", ".join(self.methods),
            memory=f"{kept} of {count} batch{several} kept in {readable_bytes(self.bytes)}",
            certificate=str(self.certificate or "none: not certified"),
            notes="\n".join(self.notes),
        )

    def _dtype_of(self, name: str) -> torch.dtype:
        return self.cost.parameters[name].dtype

    @enough_memory(f"{_ADVICE}, or multiply fewer columns at once")
    def _product(self, v: Tensor) -> Tensor:
        if self.cost.data is not None:
            self.cost.data.check_unchanged()
        own = self._vector if v.ndim == 1 else self._matrix
        return summed("a product with an operator", lambda: [own(v)], [v])[0]

    def _vector(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        directions = self._parts(v)
        return self._total(
            lambda linear: torch.cat([part.reshape(-1) for part in linear.product(directions)]), v
        )

    def _matrix(self, v: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
        if v.shape[1] == 0:
            return torch.zeros_like(v)
        # Rows: each direction lies in one piece.
        rows = self._directions(v.shape[1]).copy_(v.T)
        directions = self._parts(rows)

        def product(linear: LinearizedTerm) -> Tensor:
            found = self._directions(len(rows))
            parts = list(self.layout.unflatten(found).values())
            linear.products(directions, self._memory - self._memory // 2, parts)
            return found

        return self._total(product, rows).T

    def _directions(self, count: int) -> Float[Tensor, "K P"]:
        return zeros(count, self.layout.size, self.dtype, self.device)

    def _parts(self, v: Float[Tensor, "... P"]) -> list[Tensor]:
        parts = self.layout.unflatten(v)
        return [parts[name].to(parameter.dtype) for name, parameter in self.cost.parameters.items()]

    def _total(self, product: Callable[[LinearizedTerm], Tensor], v: Tensor) -> Tensor:
        """The sum over batches and penalty. The products are new memory by then, and may be added
        to."""
        products = map(product, self._linears())
        total = next(products, None)
        total = torch.zeros_like(v) if total is None else total
        for more in products:
            total += more
        return (
            total.add_(v, alpha=self._share.curved_penalty)
            if isinstance(self._share.curved_penalty, int | float)
            else total
        )

    def _linears(self) -> Iterator[LinearizedTerm]:
        kept = self._kept
        if kept.penalty is not None:
            yield kept.penalty
        # Where all is kept the data are not read again.
        batches = self._share.batches() if None in kept.batches else [None] * len(kept.batches)
        for linear, batch in zip(kept.batches, batches, strict=True):
            yield linear or linearize(batch_term(self._share, batch), kept.trusted)[0]


@dataclass(frozen=True)
class _Kept:
    """What is kept from one product to the next.

    Attributes:
        batches: linearised; ``None`` for one that does not fit.
        penalty: likewise, where it is a function.
        methods: how products are taken.
        notes: why not in a better way.
        trusted: the kinds of term whose products were tried, for batches that are linearised later.
        peak_bytes: what making it, and a product, takes.
    """

    batches: list[LinearizedTerm | None]
    penalty: LinearizedTerm | None
    methods: tuple[str, ...]
    notes: tuple[str, ...]
    trusted: set[Hashable]
    peak_bytes: float


@quiet()
def _keep(cost: Cost, memory: int) -> _Kept:
    """Linearise batches and penalty, and hold what fits."""
    trusted: set[Hashable] = set()
    held: list[LinearizedTerm | None] = []
    methods: dict[str, None] = {}
    notes: dict[str, None] = {}
    planned = OperatorPlan(cost, memory)
    for batch in cost.batches():
        term = batch_term(cost, batch)
        planned.add(term, batch)
        # Of what came before, some may have to give way.
        held = [linear if keep else None for linear, keep in zip(held, planned.holds, strict=False)]
        linear = None
        # The first that is not held is tried all the same.
        if None not in held:
            linear, why = linearize(term, trusted)
            methods[linear.name] = None
            notes |= dict.fromkeys(why)
        held.append(linear if planned.holds[-1] else None)
    # A batch is known by its place: without an order none that is kept can be found again.
    if None in held and not _in_order(cost):
        held = [None] * len(held)
        planned.holds = [False] * len(held)
    notes |= dict.fromkeys(planned.notes)
    penalty = None
    if callable(cost.curved_penalty):
        penalty, why = linearize(penalty_term(cost), set())
        notes |= dict.fromkeys(f"penalty: {note}" for note in why)
    return _Kept(held, penalty, tuple(methods), tuple(notes), trusted, planned.peak_bytes)


def _in_order(cost: Cost) -> bool:
    """Whether every pass has the same batches in the same places; a shuffling loader promises the
    same samples only."""
    return cost.data is None or cost.data.is_ordered
