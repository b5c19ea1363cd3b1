"""`per_sample`: gradients, diagonals and blocks of the Hessian of each sample, in batches."""

from collections.abc import Hashable, Iterable, Iterator
from typing import Any, final, get_args

from torch import Tensor

from hesse.capture import NotCaptured, capture
from hesse.certificates.certificate import Certificate
from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.curvatures.hessian import HESSIAN
from hesse.data.batch import Batch
from hesse.display import Display, Displayed, facts
from hesse.errors import (
    HesseError,
    HesseMemoryError,
    HesseValueError,
    in_a_line,
    readable_bytes,
    require_flags,
    require_word,
)
from hesse.exact.plan import NamePair
from hesse.exact.planning import MOST_SHAPES, TOO_MANY_SHAPES, wanted_blocks
from hesse.process.circumstances import is_passing
from hesse.process.memory import HOLES, allowed_memory, available_bytes, enough_memory
from hesse.process.price import Room
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed
from hesse.samples.check import Check
from hesse.samples.one_by_one import Parts, stacked
from hesse.samples.quantities import Blocks, Diagonals, Gradients, Quantity, Way
from hesse.words import CurvatureName, SampleQuantity

# Without a word of how much memory there may be used: a batch that takes more is cut.
_USUAL = 10**9
# Where there is no graph, so many samples tell whether they are independent.
_FIRST = 4


@undisturbed()
@quiet()
def per_sample(
    cost: Cost,
    what: SampleQuantity | str = "gradient",
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    pairs: Iterable[NamePair] | None = None,
    memory: int | None = None,
    certify: bool = True,
) -> "PerSample":
    """What each sample brings to the gradient, the diagonal or the blocks of the Hessian.

        J(θ) = Σ_n ℓ_n(θ) + penalty(θ):    ∂ℓ_n/∂θ,    ∂²ℓ_n/∂θ_k²,    ∂²ℓ_n/∂a∂b

    ℓ_n is the *share* of sample n: of a mean it is already divided by what the whole data divides
    by (samples, entries, or class weights of the targets that are not ignored). So the sum over all
    samples is the cost's gradient, diagonal or Hessian, without the penalty, which belongs to no
    sample; and a sample whose target is ignored brings zeros. For the gradient of ``loss(model(x),
    y)`` itself multiply by ``1 / cost.scale``.

    Nothing is computed before the result is iterated over. Gradients are outer products of what a
    layer takes in and gets back, diagonals and blocks are contracted as those of all samples are;
    what cannot be captured as a graph is differentiated sample by sample.

    Args:
        cost: the cost.
        what: ``"gradient"``, ``"diagonal"`` or ``"hessian"``.
        curvature: for the last two, what of the second derivatives, as for `hesse.hessian`.
        pairs: for ``"hessian"``, the blocks by name; by default all, each in layout order.
        memory: bytes to work in, by default 1 GB or half of what is free. Batches of the data that
            take more are cut.
        certify: hold the sum over every batch, and one of its samples, against autograd of the
            function as given; of second derivatives some entries or products, drawn at random.

    Raises:
        HesseTypeError: no cost, or an argument of another type.
        HesseValueError: another ``what``; a cost whose samples are not independent, by batch
            normalisation in training mode or by its loss, or which has no data.

    Source:
        I. Goodfellow, Efficient per-example gradient computations (2015), for dense layers.

    Examples:
        >>> import torch, hesse
        >>> X, y = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 1)
        >>> model = torch.nn.Linear(2, 1, bias=False)
        >>> cost = hesse.Cost(model, "half_sse", (X, y))
        >>> for part in hesse.per_sample(cost, "diagonal"):
        ...     part["weight"]
        tensor([[[ 1.,  4.]],
        <BLANKLINE>
                [[ 9., 16.]]])
        >>> total = hesse.per_sample(cost).stack()["weight"].sum(0)
        >>> torch.allclose(total, hesse.gradient(cost)["weight"])
        True
    """
    curved = cost_with_curvature(cost, curvature)
    require_flags(certify=certify)
    require_word(what, "what", get_args(SampleQuantity))
    if what == "gradient" and curved.curvature is not HESSIAN:
        raise HesseValueError(
            f"curvature: a gradient has none, got {curved.curvature.name!r}; ask for"
            " what='diagonal' or what='hessian'"
        )
    if pairs is not None and what != "hessian":
        raise HesseValueError(f"pairs: {what!r} has no blocks; ask for what='hessian'")
    chosen = wanted_blocks(cost, pairs, False)
    room = allowed_memory(memory, cost.device)
    room = min(room, _USUAL) if memory is None else room
    _require_samples(curved)
    if what == "hessian":
        return PerSample(curved, Blocks(curved, chosen), room, certify)
    quantity = Gradients(curved) if what == "gradient" else Diagonals(curved)
    return PerSample(curved, quantity, room, certify)


def _require_samples(cost: Cost) -> None:
    if cost.data is None:
        raise HesseValueError(
            "cost: it has no data, and so no samples; give data= to hesse.Cost.from_function"
        )
    if cost.loss is not None and not cost.loss.separable:
        raise HesseValueError(
            "cost: the loss couples its samples, its value on a batch being neither a sum nor a"
            " mean over them, so that none has a share of its own; use a loss that is one"
        )


@final
class PerSample(Displayed):
    """What each sample brings, in batches; made by `hesse.per_sample`.

    Iterating gives the batches of the data in their order, each as {name: (n, *shape)}, or, of
    blocks, {(a, b): (n, *shape of a, *shape of b)}; each iteration computes them anew.

    Attributes:
        cost: the cost that it belongs to.
        notes: what could not be done the best way, and why, as far as it was iterated over.
        certificate: what the last iteration was held against so far; ``None`` where it was not.
    """

    def __init__(self, cost: Cost, quantity: Quantity, memory: int, certify: bool) -> None:
        self.cost = cost
        self._quantity, self._memory, self._certify = quantity, memory, certify
        self._check = Check(quantity, certify)
        self._ways: dict[Hashable, Way | None] = {}
        self._notes: dict[str, None] = dict.fromkeys(cost.notes)
        # Of which batches it was seen that their samples have nothing to do with each other.
        self._independent: set[Hashable] = set()
        # Here and not in the middle of the user's loop.
        first = next(quantity.cost.batches())
        assert first is not None
        if self._way(first) is None:
            self._one_by_one(first.take(slice(0, _FIRST)))

    # How samples are worked on together is found again: what a graph is made into has functions of
    # its own, which nothing pickles. What failed is known to.
    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_ways": {k: None for k, way in self._ways.items() if way is None}}

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be done the best way, and why."""
        return tuple(self._notes)

    @property
    def certificate(self) -> Certificate | None:
        """What the last iteration was held against so far."""
        return self._check.certificate

    def _display(self) -> Display:
        return Display(
            "PerSample",
            f"{type(self._quantity).__name__.lower()} of {self.cost}",
            facts(
                samples=f"{self.cost.samples:,}",
                bytes=f"{readable_bytes(self._quantity.bytes)} each",
                certificate=str(self.certificate or "none yet: nothing was computed"),
                notes="\n".join(self.notes),
            ),
            next=("for batch in samples: ...", "samples.stack()"),
        )

    def __iter__(self) -> Iterator[dict[Any, Tensor]]:
        self._check = Check(self._quantity, self._certify)
        batches = self._quantity.cost.batches()
        while (batch := self._next(batches)) is not None:
            step = self._step(batch)
            for start in range(0, batch.size, step):
                yield self._of(batch.take(slice(start, start + step)))

    def stack(self) -> dict[Any, Tensor]:
        """All samples, in the order of the data: (samples, ...) each.

        Raises:
            HesseMemoryError: they take more than is free; says how much.
        """
        samples = self.cost.samples
        needed, free = self._quantity.bytes * samples, available_bytes(self.cost.device)
        if needed > free:
            raise HesseMemoryError(
                f"memory ran out: {samples} samples take {readable_bytes(needed)}, and"
                f" {readable_bytes(free)} are free; iterate over the batches, and keep less of them"
            )
        whole: dict[Any, Tensor] = {}
        start = 0
        for parts in self:
            size = len(next(iter(parts.values())))
            if size == samples:
                return parts
            for key, part in parts.items():
                if key not in whole:
                    whole[key] = part.new_empty(samples, *part.shape[1:])
                whole[key][start : start + size] = part
            start += size
        return whole

    @staticmethod
    @undisturbed()
    def _next(batches: Iterator[Batch | None]) -> Batch | None:
        """Read by the user's loader as when the cost was made, whatever is switched on around the
        loop; ``None`` at the end."""
        return next(batches, None)

    @undisturbed()
    @quiet()
    def _step(self, batch: Batch) -> int:
        """How many samples of a batch are worked on at once."""
        way, result = self._way(batch), Room(0, self._quantity.bytes)
        rooms = [Room(0, 0)] if way is None else way.rooms
        fitting = min((room * HOLES + result).fitting(self._memory) for room in rooms)
        most = max(1, int(min(fitting, batch.size)))
        # As many pieces as it takes, of like size.
        return -(-batch.size // -(-batch.size // most))

    @enough_memory("give less to work in with memory=, or the data in smaller batches")
    @undisturbed()
    @quiet()
    def _of(self, batch: Batch) -> dict[Any, Tensor]:
        """A batch, or a piece of one."""
        way = self._way(batch)
        if way is not None:
            try:
                parts = way.of_batch(batch)
                reason = "what it gave is not what autograd gives"
                if not self._check.fails(batch, parts):
                    return {key: part.detach() for key, part in parts.items()}
            # Of an operation in a form that no rule knows.
            except Exception as error:
                if is_passing(error):
                    raise
                reason = f"it ended in an error ({in_a_line(error)})"
            self._ways[batch.signature] = None
            self._notes[f"sample by sample: of the graph {reason}"] = None
        return {key: part.detach() for key, part in self._one_by_one(batch).items()}

    def _way(self, batch: Batch) -> Way | None:
        """How a batch's samples are worked on together; ``None`` where they are not."""
        signature, quantity = batch.signature, self._quantity
        if signature not in self._ways:
            self._ways[signature] = None
            try:
                if len(self._ways) > MOST_SHAPES:
                    raise NotCaptured(TOO_MANY_SHAPES)
                way = quantity.by_graph(capture(quantity.cost, signature), signature)
                least = max((room.of(1) for room in way.rooms), default=0.0)
                taken = least * HOLES
                if taken > self._memory and taken > available_bytes(self.cost.device) // 2:
                    raise NotCaptured(f"one of them takes {readable_bytes(least)} by the graph")
                self._ways[signature] = way
            except NotCaptured as reason:
                self._notes[f"sample by sample: {reason}"] = None
        return self._ways[signature]

    def _one_by_one(self, batch: Batch) -> Parts:
        """Each sample alone, which is right where none has to do with another."""
        try:
            parts = stacked(self._quantity.of_sample, batch)
        # Of a model that cannot take a sample alone, as one that normalises over them.
        except Exception as error:
            if is_passing(error) or isinstance(error, HesseError):
                raise
            raise HesseValueError(
                f"cost: it cannot take a sample alone ({in_a_line(error)}){self._why}"
            ) from error
        if batch.size > 1 and batch.signature not in self._independent:
            if self._check.couples(batch, parts):
                raise HesseValueError(
                    "cost: its samples are not independent: what they bring alone does not add up"
                    f" to what they bring together{self._why}"
                )
            self._independent.add(batch.signature)
        self._check.fails(batch, parts)
        return parts

    @property
    def _why(self) -> str:
        """What is known of the reason, and what to do."""
        notes = "".join(f"; {note}" for note in self._notes if note.startswith("sample by"))
        return f"{notes}. Is it batch normalisation? Call model.eval() before making the cost"
