"""What of a Hessian is held against double backward: products that see its blocks, all alike."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hesse.certificates.certificate import Certificate
from hesse.certificates.comparison import Comparison, Difference, compare
from hesse.certificates.drawing import drawn, shared_generator
from hesse.certificates.precision import tf32_notes
from hesse.certificates.reference import (
    METHOD,
    SHARE,
    ByParameter,
    Limit,
    Request,
    independent,
    products,
)
from hesse.distributed.group import is_first, of_first, summed

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.matrix.block_hessian import BlockHessian

# Rows by which the size of a column block is judged, and rows that one product passes over at once.
_ROWS = 128
_TILE = 64
# A column block's size counts as at least so much of the largest: v is larger where a block is
# smaller, and so is its rounding.
_LEAST = {torch.float32: 3e-2, torch.float64: 1e-3}


@dataclass(frozen=True)
class Verdict:
    """Whether what was made can be believed.

    Attributes:
        certificate: what was compared.
        wrong: by parameter, where what was made and the independent way differ.
        undefined: the parameters for which the independent way gave no number.
    """

    certificate: Certificate
    wrong: dict[str, Difference]
    undefined: tuple[str, ...] = ()


class MatrixProbes:
    """Random products with a Hessian and with its blocks, and what they are to be held against.

    Args:
        cost: the cost that it is of.
        hessian: complete, or some of its blocks.
    """

    def __init__(self, cost: "Cost", hessian: "BlockHessian") -> None:
        self._cost, self._hessian, self._random = cost, hessian, shared_generator()
        names = cost.layout.names
        self._held = {pair for a, b in hessian.pairs for pair in ((a, b), (b, a))}
        self._rows = {b: tuple(a for a in names if (a, b) in self._held) for b in names}

    def requests(self) -> tuple[list[Request], list[float], int]:
        """The products, the first ones the most telling, and how many are to be made in any case.

        Beside each stands the largest size of an entry of a block times a normal v, where the
        product does not show it itself.

        Of a whole matrix: one of all columns, scaled so that every block weighs alike, and one of a
        single parameter's. Of some blocks: those of one parameter's columns that have the same
        rows, until every block is seen.
        """
        cost, names = self._cost, self._cost.layout.names
        drawings = {name: drawn(cost.parameters[name], self._random) for name in names}
        if self._hessian.is_complete:
            sizes, rows = self._sizes()
            typical = max(sizes.values(), default=0.0) / math.sqrt(max(1, rows))
            least = max(sizes.values(), default=0.0) * _LEAST[self._hessian.dtype]
            scaled = {name: v / (max(sizes[name], least) or 1.0) for name, v in drawings.items()}
            chosen = names[
                int(torch.randint(len(names), (1,), generator=self._random, device="cpu"))
            ]
            single = {chosen: drawn(cost.parameters[chosen], self._random)}
            if len(names) == 1:
                return [Request(scaled, names)], [0.0], 1
            return [Request(scaled, names), Request(single, names)], [0.0, typical], 2
        unseen, requests = {frozenset(pair) for pair in self._held}, list[Request]()
        order = [
            names[int(k)] for k in torch.randperm(len(names), generator=self._random, device="cpu")
        ]
        for name in sorted(order, key=lambda name: -len(self._rows[name])):
            seen = {frozenset((a, name)) for a in self._rows[name]} & unseen
            if seen:
                rows = tuple(a for a in self._rows[name] if frozenset((a, name)) in seen)
                requests.append(Request({name: drawings[name]}, rows))
                unseen -= seen
        places = torch.randperm(len(requests), generator=self._random, device="cpu").tolist()
        return [requests[place] for place in places], [self._typical()] * len(requests), 1

    def _sizes(self) -> tuple[dict[str, float], int]:
        """The typical size of H v for a normal v in one parameter, from some of the rows, and how
        many."""
        sizes, rows = self._hessian.entries.column_norms(_ROWS, self._random)
        return {n: size if math.isfinite(size) else 0.0 for n, size in sizes.items()}, rows

    def _typical(self) -> float:
        return self._hessian.entries.typical(_ROWS, self._random)

    def products(self, requests: list[Request]) -> list[ByParameter]:
        """What the Hessian gives for them."""
        if not self._hessian.is_complete:
            return [{a: self._block(a, request) for a in request.rows} for request in requests]
        layout, matrix = self._cost.layout, self._hessian.matrix
        if matrix is None:
            return self._streamed(requests)
        totals = [matrix.new_zeros(len(matrix)) for _ in requests]
        # All products while a few rows are in the cache: the matrix is read once.
        for low in range(0, len(matrix), _TILE):
            rows = matrix[low : low + _TILE]
            for total, request in zip(totals, requests, strict=True):
                if len(request.columns) == len(layout.names):
                    total[low : low + _TILE] = rows @ layout.flatten(request.columns).to(
                        matrix.dtype
                    )
                else:
                    for name, v in request.columns.items():
                        total[low : low + _TILE] += rows[:, layout.slice(name)] @ v.flatten().to(
                            matrix.dtype
                        )
        return [layout.unflatten(total) for total in totals]

    def _streamed(self, requests: list[Request]) -> list[ByParameter]:
        """All of them in one pass over the blocks."""
        layout, H = self._cost.layout, self._hessian
        vectors = torch.zeros(layout.size, len(requests), dtype=H.dtype, device=H.device)
        for place, request in enumerate(requests):
            for name, v in request.columns.items():
                vectors[layout.slice(name), place] = v.flatten().to(H.device, H.dtype)
        # Read from the disk once, not on every rank.
        (read,) = summed(
            "products with a stored Hessian",
            lambda: [H @ vectors if is_first() else torch.zeros_like(vectors)],
        )
        return [layout.unflatten(total) for total in read.unbind(1)]

    def _block(self, a: str, request: Request) -> Tensor:
        entries = self._hessian.entries
        parts = [
            entries.block_product(a, b, v.flatten().to(self._hessian.dtype))
            for b, v in request.columns.items()
        ]
        return torch.stack(parts).sum(0).reshape(self._cost.layout.shape(a))


def certify_matrix(
    cost: "Cost",
    hessian: "BlockHessian",
    seconds: float,
    notes: tuple[str, ...] = (),
    memory: int | None = None,
) -> Verdict:
    """Hold a Hessian against double backward, within 15 % of what it took, or six gradients.

    Args:
        cost: the cost.
        hessian: its Hessian.
        seconds: what making it took.
        notes: for the certificate.
        memory: bytes to work in, where samples are known to be independent.
    """
    start, (cost, notes) = time.perf_counter(), independent(cost, notes)
    probes = MatrixProbes(cost, hessian)
    requests, typical, least = probes.requests()
    expected = products(cost, requests, Limit(least, SHARE * seconds, memory))
    done = requests[: len(expected)]
    comparison = compare(cost, done, probes.products(done), expected, typical=typical[: len(done)])
    wrong = {name: difference for each in comparison.wrong for name, difference in each.items()}
    if hessian.is_complete:
        # What the product of all columns does not show lies in the columns of the other one.
        wrong = comparison.wrong[0] or {
            name: next(iter(each.values())) for each, name in _single(comparison, done)
        }
        compared = f"{len(done)} product{'s' * (len(done) != 1)} with {all_of(cost)}"
    else:
        seen = sum(len(request.rows) for request in done)
        compared = (
            f"{seen} of {len(hessian.pairs)} blocks"
            if seen < len(hessian.pairs)
            else (f"all {seen} blocks" if seen > 1 else "the block")
        )
    return agreed(
        Verdict(
            certificate_of(cost, comparison, compared, start, notes), wrong, comparison.undefined
        )
    )


def agreed(verdict: Verdict) -> Verdict:
    """That of rank 0, on all ranks: what is done next must be the same on all, whatever rounding
    did to one."""
    return of_first("a certificate", lambda: verdict)


def all_of(cost: "Cost") -> str:
    """All parameters, in words."""
    count = len(cost.layout.names)
    return f"all {count} parameters" if count > 1 else "the only parameter"


def _single(
    comparison: Comparison, done: list[Request]
) -> Iterable[tuple[dict[str, Difference], str]]:
    return [
        (each, next(iter(r.columns)))
        for each, r in zip(comparison.wrong[1:], done[1:], strict=True)
        if each
    ]


def certificate_of(
    cost: "Cost", comparison: Comparison, compared: str, start: float, notes: tuple[str, ...] = ()
) -> Certificate:
    """The certificate of a comparison that began at ``start``."""
    if comparison.undefined:
        names = ", ".join(comparison.undefined[:3]) + (
            ", ..." if len(comparison.undefined) > 3 else ""
        )
        notes = (*notes, f"double backward gives no number for {names}, which is not compared")
    seconds = time.perf_counter() - start
    notes = (*notes, *tf32_notes(cost.dtype, cost.device))
    return Certificate(
        comparison.deviation, compared, METHOD, cost.samples, seconds, comparison.rounding, notes
    )
