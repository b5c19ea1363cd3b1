"""`diagonal`: the exact diagonal of the Hessian from the same backward pass, without any block of
it."""

import math
import time
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.certificates.entries import certify_diagonal
from hesse.certificates.soundness import require_sound
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.distributed.group import processes, summed, together
from hesse.distributed.shares import share_of
from hesse.errors import require_flags, require_progress
from hesse.exact.columns import penalty_rows
from hesse.exact.contraction.diagonal_entries import add_entries
from hesse.exact.execution import pairs_by_chunk, rows_by_batch, steps
from hesse.exact.fallback import error_of, fall_back, fall_back_if_undefined
from hesse.exact.plan import Plan
from hesse.exact.planning import diagonal_plan
from hesse.layout import TensorsByName
from hesse.process.circumstances import is_of_strategy
from hesse.process.memory import enough_memory
from hesse.process.progress import Progress
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed
from hesse.words import CurvatureName


@enough_memory()
@undisturbed()
@quiet()
def diagonal(
    cost: Cost,
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    memory: int | None = None,
    certify: bool = True,
    progress: bool | None = None,
) -> "Entries":
    """The exact diagonal of the Hessian, ∂²J/∂θ_k², by parameter name; H itself is never built.

    For a dense layer it is ∂²J/∂W[o,i]² = Σ_n a[n,i]² S[n,o,o]: only S is carried down the
    graph, with nothing for mixed blocks. Parameters that enter in no linear way take one product
    for each entry.

    Args:
        cost: the cost.
        curvature: what of the second derivatives: ``"hessian"``, all of them; ``"gauss_newton"``;
            ``"functional"``, what the first has beside the second; or another `Curvature`.
        memory: bytes that the work may use; by default a share of what is free.
        certify: hold entries drawn at random, of as many parameters as 15 % of the time or six
            gradients allow, against double backward of the function as given. What is wrong is
            computed again in a slower way.
        progress: as for `hessian`.

    Returns:
        Tensors of the parameters' shapes by name, with a ``certificate``.

    Raises:
        HesseError: as for `hessian`.

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> hesse.diagonal(cost)
        {'weight': tensor([[10., 20.]])}
    """
    cost = cost_with_curvature(cost, curvature).curved
    require_flags(certify=certify)
    require_progress(progress)
    while True:
        planned = together("a plan", lambda: diagonal_plan(cost, memory))
        start = time.perf_counter()
        try:
            entries = _computed(share_of(cost), planned, progress)
        except Exception as error:
            if not is_of_strategy(error):
                raise
            fall_back(cost, error_of(cost, error), planned.by_columns, "diagonal")
            continue
        bad = {name for name, part in entries.items() if not _is_finite(part)}
        if fall_back_if_undefined(cost, bad, planned.by_columns):
            continue
        if not certify:
            return Entries(entries)
        seconds, room = (
            time.perf_counter() - start,
            planned.column_budget if planned.captured else None,
        )
        verdict = certify_diagonal(cost, entries, seconds, require_sound(cost), room)
        undefined = dict.fromkeys(bad, "gave entries that are not finite")
        if not fall_back(cost, {**verdict.wrong, **undefined}, planned.by_columns, "diagonal"):
            return Entries(entries, verdict.certificate)


@final
class Entries(TensorsByName):
    """The diagonal of a Hessian: {name: Tensor}.

    Attributes:
        certificate: what it was held against; ``None`` where it was not.
    """

    def __init__(
        self, entries: Mapping[str, Tensor], certificate: Certificate | None = None
    ) -> None:
        super().__init__(entries)
        self.certificate = certificate


def _computed(cost: Cost, planned: Plan, progress: bool | None) -> dict[str, Tensor]:
    """The entries, of what this process has of the data and then of all."""
    parts = summed("a diagonal", lambda: list(_sums(cost, planned, progress).values()))
    return dict(zip(cost.layout.names, parts, strict=True))


def _sums(cost: Cost, planned: Plan, progress: bool | None) -> dict[str, Tensor]:
    sums = {name: torch.zeros_like(value).reshape(-1) for name, value in cost.parameters.items()}
    with Progress("diagonal", steps(cost, planned) / processes(), progress) as bar:
        for part in planned.parts:
            for key, pair in pairs_by_chunk(cost, part, bar):
                add_entries(pair, sums[part.contractions[key].blocks[0][0]])
            for name, entries, products in rows_by_batch(cost, part, bar):
                sums[name][entries] += _diagonal_of_rows(products[name], entries)
    _add_penalty(cost, sums)
    return {name: sums[name].reshape(cost.layout.shape(name)) for name in cost.layout.names}


def _is_finite(part: Tensor) -> bool:
    # A sum takes one pass, and is finite where all are, unless it is too large.
    return math.isfinite(float(part.sum())) or bool(part.isfinite().all())


def _diagonal_of_rows(products: Tensor, entries: slice) -> Tensor:
    return products.reshape(entries.stop - entries.start, -1)[:, entries].diagonal()


def _add_penalty(cost: Cost, sums: dict[str, Tensor]) -> None:
    if isinstance(cost.curved_penalty, float):
        for total in sums.values():
            total += cost.curved_penalty
    elif cost.curved_penalty is not None:
        for name, entries, products in penalty_rows(cost, {name: [name] for name in sums}):
            sums[name][entries] += _diagonal_of_rows(products[name], entries)
