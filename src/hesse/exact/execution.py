"""Running a plan: what `hessian` and `diagonal` share, with their progress."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from hesse.cost import Cost
from hesse.data.batch import Batch
from hesse.exact.columns import rows
from hesse.exact.contraction.pair import Pair
from hesse.exact.contraction.pairing import PairKey
from hesse.exact.plan import Plan, PlanPart
from hesse.exact.propagation.evaluation import chunks
from hesse.process.progress import Progress
from hesse.version import __version__


def steps(cost: Cost, planned: Plan) -> float:
    """How far the progress of a plan goes: its chunks, and the products of what goes by columns."""
    count = 0.0
    for part in planned.parts:
        # Rounded up: the last chunk may be smaller.
        count += -(-part.samples // part.chunk) if part.contractions else 0
        count += (
            sum(cost.layout.sizes[name] for name in part.by_columns) * part.samples / cost.samples
        )
    return count


def provenance_of(cost: Cost, planned: Plan, seconds: float) -> dict[str, str]:
    """What a Hessian was computed from, and how."""
    return {
        "cost": str(cost),
        "curvature": cost.curvature.name,
        "hesse": __version__,
        "torch": torch.__version__,
        "seconds": f"{seconds:.6g}",
        "notes": "; ".join(planned.notes),
    }


def pairs_by_chunk(cost: Cost, part: PlanPart, bar: Progress) -> Iterator[tuple[PairKey, Pair]]:
    """Carry every chunk of samples down the graph, and yield each pair of uses of the plan when it
    is complete."""
    if part.backward_pass is None or not part.contractions:
        return
    for chunk in chunks(cost, part.chunk, part.signature):
        yield from part.backward_pass.run(chunk)
        bar.advance(1)


def rows_by_batch(
    cost: Cost,
    part: PlanPart,
    bar: Progress,
    some: Mapping[str, tuple[slice, Sequence[str]]] | None = None,
) -> Iterator[tuple[str, slice, dict[str, Tensor]]]:
    """Rows of the Hessian for the parameters that go by columns, the share of each batch in
    turn; or some rows of some parameters in their blocks with others."""
    asked = part.asked if some is None else {name: others for name, (_, others) in some.items()}
    ranges = None if some is None else {name: entries for name, (entries, _) in some.items()}
    together = part.together and some is None
    for batch in cost.batches() if part.asked else ():
        if batch is not None and batch.signature != part.signature:
            continue
        for piece in _pieces(batch, part.piece):
            size = 1 if piece is None else piece.size
            for name, entries, products in rows(
                cost, asked, piece, part.widths, part.singly, part.traced, together, ranges
            ):
                yield name, entries, products
                bar.advance((entries.stop - entries.start) * size / cost.samples)


def _pieces(batch: Batch | None, most: int) -> Iterator[Batch | None]:
    """A batch, or what it is cut into."""
    if batch is None or batch.whole or batch.size <= most:
        yield batch
        return
    # Of like size, so that most of them are of one form.
    step = -(-batch.size // -(-batch.size // most))
    for low in range(0, batch.size, step):
        yield batch.take(slice(low, low + step))
