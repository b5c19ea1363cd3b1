"""The Jacobian of the predictions as something to multiply with, from both sides."""

import math
from collections.abc import Callable, Hashable, Iterator
from typing import Any, final

import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from hesse.certificates.certificate import Certificate
from hesse.certificates.product import certify_product
from hesse.cost import Cost, require_cost
from hesse.data.batch import Batch
from hesse.derivatives import DoubleBackward, Map, TensorFunction, Tensors
from hesse.errors import HesseValueError, require_flags
from hesse.layout import Layout
from hesse.linear_operators.linear_operator import LinearOperator
from hesse.process.circumstances import is_interrupted
from hesse.process.memory import enough_memory
from hesse.process.quiet import quiet
from hesse.process.undisturbed import undisturbed

# Where a prediction is one tensor, its rows have this name.
_PREDICTION = "prediction"
# At most so many columns go through a batch side by side.
_WIDEST = 64
_ADVICE = "give the data in smaller batches, or multiply fewer columns at once"


@enough_memory(_ADVICE)
@undisturbed()
@quiet()
def jacobian(cost: Cost, *, certify: bool = True) -> "JacobianOperator":
    """The Jacobian of the predictions in the parameters, J = ∂ŷ/∂θ over all data, as a linear
    operator: J v and Jᵀ u, neither of which makes J.

    The rows are the entries of the predictions, sample after sample in the order of the data:
    ``J.rows`` has one part, ``"prediction"`` of shape (samples, *ŷ), or one for each tensor of a
    prediction that is a tuple (``"0"``, ``"1"``, ...) or a mapping (by key). The columns are the
    parameters, ``J.columns``. Gauss–Newton's matrix is JᵀSJ, with S the Hessian of the cost in the
    predictions, its divisor included.

    Every product goes once through the data, and keeps what autograd does of one batch at a time.
    The order of the data has to be the same in every pass, as a list's and a ``DataLoader``'s is.

    Args:
        cost: the cost; of its loss and its penalty nothing is used.
        certify: hold Jᵀ(J v) against double backward of ½ Σ ‖ŷ(θ) − ŷ‖², ŷ held fixed.

    Raises:
        HesseTypeError: not a cost.
        HesseValueError: a cost that predicts nothing.

    Source:
        B. A. Pearlmutter, Fast exact multiplication by the Hessian, Neural Computation 6 (1994),
        147, for J v.

    Examples:
        >>> import torch, hesse
        >>> X = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> cost = hesse.Cost(torch.nn.Linear(2, 1, bias=False), "half_sse", (X, torch.zeros(2, 1)))
        >>> J = hesse.jacobian(cost)
        >>> J.shape, J @ torch.tensor([1.0, 0.0]), J.T @ torch.tensor([1.0, 1.0])
        ((2, 2), tensor([1., 3.]), tensor([4., 6.]))
    """
    require_cost(cost)
    require_flags(certify=certify)
    made = JacobianOperator(cost)
    squares = cost.squared_error_from_own_predictions()
    if not certify or squares is None:
        return made

    def product(v: dict[str, Tensor]) -> dict[str, Tensor]:
        found = made.T @ (made @ cost.layout.flatten(v))
        return cost.layout.unflatten(found * cost.scale)

    verdict = certify_product(squares, product)
    if verdict.wrong:
        name, gap = next(iter(verdict.wrong.items()))
        raise HesseValueError(
            f"cost: its Jacobian cannot be certified: JᵀJ v {gap}, of the part of {name!r}. Is the"
            " model random?"
        )
    made.certificate = verdict.certificate
    return made


@final
class JacobianOperator(LinearOperator):
    """J = ∂ŷ/∂θ of a cost's predictions; made by `hesse.jacobian`.

    Attributes:
        cost: the cost that it belongs to.
        certificate: what a product was held against; ``None`` where it was not.
    """

    def __init__(self, cost: Cost) -> None:
        if cost.predict is None:
            raise HesseValueError(
                "cost: it predicts nothing, being a function of its parameters made by"
                " Cost.from_function; make it with hesse.Cost(model, loss, data)"
            )
        super().__init__(_layout_of_predictions(cost), cost.layout, cost.dtype, cost.device)
        self.cost = cost
        self.certificate: Certificate | None = None

    @property
    def _size(self) -> str:
        M, N = self.shape
        return f"{self.cost}, {M} x {N}, {str(self.dtype).removeprefix('torch.')}"

    def _calls(self) -> tuple[str, ...]:
        return ("J @ v", "J.T @ u", "J.dense()")

    def _dtype_of(self, name: str) -> torch.dtype:
        known = self.cost.parameters.get(name)
        return self.dtype if known is None else known.dtype

    @enough_memory(_ADVICE)
    @quiet()
    def _product(self, v: Tensor) -> Tensor:
        columns = v.reshape(len(v), -1).T
        named = self.columns.unflatten(columns)
        tangents = [named[name].to(p.dtype) for name, p in self.cost.parameters.items()]
        found = columns.new_zeros(len(columns), self.rows.size)
        for function, theta, places in self._by_batch():
            linear = DoubleBackward().first(function, theta)
            parts = _mapped(linear.pushforward, tangents)
            for part, place in zip(parts, places(linear.value), strict=True):
                found[:, place] = part.reshape(len(columns), -1)
        return found.T.reshape(-1, *v.shape[1:])

    @enough_memory(_ADVICE)
    @quiet()
    def _transposed_product(self, u: Tensor) -> Tensor:
        columns = u.reshape(len(u), -1).T
        total = columns.new_zeros(len(columns), self.columns.size)
        for function, theta, places in self._by_batch():
            value, pullback = DoubleBackward().pullback(function, theta)
            cotangents = [
                columns[:, place].reshape(-1, *part.shape).to(part.dtype)
                for part, place in zip(value, places(value), strict=True)
            ]
            parts = _mapped(pullback, cotangents)
            total += torch.cat([part.reshape(len(columns), -1) for part in parts], 1)
        return total.T.reshape(-1, *u.shape[1:])

    def _by_batch(
        self,
    ) -> Iterator[tuple[TensorFunction, Tensors, Callable[[Tensors], list[slice]]]]:
        """The predictions of every batch as a function of θ, and which rows the tensors of its
        value are."""
        theta = list(self.cost.parameters.values())
        ends = [self.rows.offsets[name] for name in self.rows.names]

        def places(value: Tensors) -> list[slice]:
            starts = tuple(ends)
            ends[:] = [start + part.numel() for start, part in zip(starts, value, strict=True)]
            return list(map(slice, starts, ends))

        for batch in self.cost.batches():
            assert batch is not None
            yield _predictions(self.cost, batch), theta, places


def _predictions(cost: Cost, batch: Batch) -> TensorFunction:
    """θ -> the floating tensors of the prediction for a batch."""

    def named(theta: Tensors) -> dict[str, Tensor]:
        return dict(zip(cost.layout.names, theta, strict=True))

    def predict(theta: Tensors) -> Tensors:
        assert cost.predict is not None
        return list(_tensors_by_name(cost.predict(named(theta), batch)).values())

    return TensorFunction(predict, lambda theta: cost.holding(named(theta)))


def _tensors_by_name(prediction: Any) -> dict[str, Tensor]:
    """The floating tensors of a prediction, by where they stand in it."""
    leaves = pytree.tree_flatten_with_path(prediction)[0]
    return {
        ".".join(map(_step, path)) or _PREDICTION: leaf
        for path, leaf in leaves
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    }


def _step(key: Any) -> str:
    """A key of a mapping, a place in a sequence, or an attribute."""
    for name in ("key", "idx", "name"):
        if hasattr(key, name):
            return str(getattr(key, name))
    return str(key)


def _layout_of_predictions(cost: Cost) -> Layout:
    """The parts of the predictions over all data: (samples, ...) where every batch has a row for
    each of its samples and they are alike, else flat.

    Raises:
        HesseValueError: there are none, or batches have other parts than the first.
    """
    known: dict[Hashable, dict[str, tuple[int, ...]]] = {}
    sizes: dict[str, int] = {}
    rests: dict[str, set[tuple[int, ...] | None]] = {}
    for batch in cost.batches():
        assert batch is not None and cost.predict is not None
        key = (batch.size, batch.signature)
        if key not in known:
            with torch.no_grad():
                made = _tensors_by_name(cost.predict(cost.parameters, batch))
            known[key] = {name: tuple(part.shape) for name, part in made.items()}
        shapes = known[key]
        if not shapes or (sizes and sizes.keys() != shapes.keys()):
            raise HesseValueError(
                "cost: its predictions are to hold floating tensors, the same for every batch; got"
                f" {list(shapes) or 'none'}"
            )
        for name, shape in shapes.items():
            sizes[name] = sizes.get(name, 0) + math.prod(shape)
            by_sample = len(shape) > 0 and shape[0] == batch.size
            rests.setdefault(name, set()).add(shape[1:] if by_sample else None)
    return Layout(
        tuple(sizes),
        tuple(
            (size,)
            if None in rests[name] or len(rests[name]) > 1
            else (cost.samples, *next(iter(rests[name])))  # type: ignore[misc]
            for name, size in sizes.items()
        ),
    )


def _mapped(product: Map, several: Tensors) -> Tensors:
    """A product with many vectors, stacked: side by side, or one by one where an operation has no
    rule for several."""
    pieces = [
        _side_by_side(product, [part[low : low + _WIDEST] for part in several])
        for low in range(0, len(several[0]), _WIDEST)
    ]
    return [torch.cat(parts) for parts in zip(*pieces, strict=True)]


def _side_by_side(product: Map, some: Tensors) -> Tensors:
    def of(*v: Tensor) -> Tensors:
        return product(list(v))

    if len(some[0]) > 1:
        try:
            return [part.detach() for part in vmap(of)(*some)]
        except RuntimeError as error:
            if is_interrupted(error):
                raise
    each = [product([part[k] for part in some]) for k in range(len(some[0]))]
    return [torch.stack(parts).detach() for parts in zip(*each, strict=True)]
