"""Running a plan: what `hessian` and `diagonal` share, with their progress."""

from collections.abc import Iterator

from torch import Tensor

from hesse.cost import Cost
from hesse.exact.columns import rows
from hesse.exact.contraction.pair import Pair
from hesse.exact.contraction.signals import PairKey
from hesse.exact.plan import Part, Plan
from hesse.exact.propagation.evaluation import chunks
from hesse.process.progress import Progress


def steps(cost: Cost, made: Plan) -> float:
    """How far the progress of a plan goes: its chunks, and the products of what goes by columns."""
    count = 0.0
    for part in made.parts:
        count += -(-part.samples // part.chunk) if part.contractions else 0
        count += (
            sum(cost.layout.sizes[name] for name in part.by_columns) * part.samples / cost.samples
        )
    return count


def pairs_by_chunk(cost: Cost, part: Part, bar: Progress) -> Iterator[tuple[PairKey, Pair]]:
    """Carry every chunk of samples down the graph, and yield each pair of slots of the plan when it
    is complete."""
    if part.descent is None or not part.contractions:
        return
    for chunk in chunks(cost, part.chunk, part.signature):
        yield from part.descent.run(chunk)
        bar.advance(1)


def rows_by_batch(
    cost: Cost, part: Part, name: str, width: int, bar: Progress
) -> Iterator[tuple[slice, dict[str, Tensor]]]:
    """Rows of the Hessian for a parameter that goes by columns, the share of each batch in turn."""
    for batch in cost.batches():
        if batch is not None and batch.signature != part.signature:
            continue
        for at, products in rows(cost, name, batch, width, singly=name in part.singly):
            yield at, products
            bar.advance((at.stop - at.start) * (batch.size if batch else 1) / cost.samples)
