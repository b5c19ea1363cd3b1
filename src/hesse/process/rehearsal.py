"""Work carried out on shapes alone: what it would take, without doing it.

While a `Rehearsal` is entered, every operation of PyTorch on this thread, those within `vmap` and
`vjp` too, makes tensors without memory (of the device "meta"), and is counted: the bytes that would
be alive at once, the operations, the bytes that would pass through memory, the calls.
"""

import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hesse.process.convolutions import convolves, laid_out, work
from hesse.process.price import Price
from hesse.process.recent import Recent

_META, _CPU = torch.device("meta"), torch.device("cpu")


def as_shape(value: Any) -> Any:
    """A tensor's shape and dtype as a tensor without memory; anything else as it is."""
    if not isinstance(value, Tensor) or value.is_meta:
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device=_META)


@final
class Rehearsal(TorchDispatchMode):
    """Counts what the work within takes.

    Decisions by a value come out as for zero: `bool(tensor)` is False. Tensors that were there
    before cost nothing, and what is done with whole numbers alone (indices) is done.

    Args:
        shapes_only: nothing is computed; else it is, and counted as well.

    Attributes:
        alive: bytes that are held now.
        peak: the most that were held at once since it began.
        price: the operations, bytes and calls since it began.

    Examples:
        >>> import torch
        >>> column = torch.ones(10**6, 1)
        >>> with Rehearsal() as rehearsal:
        ...     product = column @ column.T
        >>> rehearsal.peak, rehearsal.price.operations
        (4000000000000, 2000000000000)
    """

    def __init__(self, shapes_only: bool = True) -> None:
        super().__init__()
        self.alive = self.peak = self._operations = self._moved = self._calls = 0
        self._convolved = 0
        self._shapes_only = shapes_only
        self._alive: dict[int, Any] = {}

    # What is entered for every operation is none of TorchDynamo's, which is asked each time else.
    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False

    def begin(self) -> None:
        """Count anew; what is held stays so."""
        self.peak, self._operations, self._moved, self._calls = self.alive, 0, 0, 0
        self._convolved = 0

    @property
    def price(self) -> Price:
        return Price(self._operations, self._moved, self._calls, convolved=self._convolved)

    def __torch_dispatch__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        traits, options = traits_of(func), kwargs or {}
        if self._shapes_only:
            # Most of what is done: it is told apart from all else first.
            if traits.views and isinstance(args[0], Tensor) and args[0].is_meta:
                return func(*args, **options)
            if _is_of_places(args, options):
                return func(*args, **options)
            if func is torch.ops.aten._local_scalar_dense.default:
                return _zero(args[0])
            args = tuple(map(_as_shapes, args))
            options = {name: _as_shapes(value) for name, value in options.items()}
            if traits.places:
                options["device"] = _META
        if self._shapes_only and traits.makes:
            result = _alike(func, args, options)
        else:
            result = func(*args, **options)
        if traits.views:
            return result
        self._calls += 1
        self._moved += sum(map(_bytes, args))
        if traits.mutates:
            return result
        for part in _parts(result):
            if isinstance(part, Tensor) and (self._shapes_only or _has_memory(part)):
                self._moved += self._enter(part)
        if traits.convolves:
            self.peak = max(self.peak, self.alive + laid_out(func, args, result))
        if traits.count is not None:
            count = traits.count(*args, **options, out_val=result)
            self._operations += count
            self._convolved += count if traits.convolves else 0
        return result

    def _enter(self, tensor: Tensor) -> int:
        """Count what an operation made until it is gone; says how large it is."""
        storage = tensor.untyped_storage()
        size = storage.nbytes()
        # The storage's object lasts as long as its memory; only new ones are not here yet.
        place = id(storage)
        if place not in self._alive:
            self._alive[place] = weakref.ref(storage, partial(self._leave, place, size))
            self.alive += size
            self.peak = max(self.peak, self.alive)
        return size

    def _leave(self, place: int, size: int, _: Any) -> None:
        del self._alive[place]
        self.alive -= size


@dataclass(frozen=True)
class Traits:
    """What matters of an operation.

    Attributes:
        places: whether it makes tensors on a device that it is told.
        views: whether nothing but a view comes out.
        mutates: whether it writes into what it is given.
        count: its floating point operations, where it is a matrix product.
        convolves: whether it is a convolution, or the way back through one.
        makes: whether it makes one new tensor.
        in_order: whether it takes what it reads and writes as it lies, entry by entry or as a
            matrix product.
    """

    places: bool
    views: bool
    mutates: bool
    count: Callable[..., int] | None
    convolves: bool
    makes: bool
    in_order: bool


@cache
def traits_of(func: Any) -> Traits:
    """Those of an operation, by its schema."""
    schema = func._schema
    count = flop_registry.get(func.overloadpacket)
    of_images = convolves(func)
    if of_images:
        count = work(func)
    elif func.overloadpacket is _SOLUTION:
        count = _of_solution
    aliases = any(returned.alias_info is not None for returned in schema.returns)
    return Traits(
        any(argument.name == "device" for argument in schema.arguments),
        aliases and not schema.is_mutable,
        schema.is_mutable,
        count,
        of_images,
        not aliases and [str(returned.type) for returned in schema.returns] == ["Tensor"],
        torch.Tag.pointwise in func.tags or (count is not None and not of_images),
    )


# Shape, strides and dtype of a tensor; those of several; else the type of an argument, and how it
# prints.
_Form = tuple[Any, ...]


def _form(value: Any) -> _Form:
    if isinstance(value, Tensor):
        return value.shape, value.stride(), value.dtype
    if isinstance(value, tuple | list):
        return tuple(map(_form, value))
    return type(value), value if isinstance(value, int) else repr(value)


# PyTorch finds in Python what an operation makes of shapes, at a hundred times the price of the
# tensor; steps of a recurrence ask for it again, and so does the next rehearsal. ``None`` of one
# that makes no memory, which not every operation says.
_FORMS = Recent[_Form | None](5_000)


def _alike(func: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Tensor:
    """What an operation makes of shapes."""

    def form() -> _Form | None:
        result = func(*args, **options)
        return None if result._is_zerotensor() or _is_part(result, args) else _form(result)

    given = (*map(_form, args), *((name, _form(options[name])) for name in options))
    known = _FORMS.kept((func, torch.get_default_dtype(), *given), form)
    if known is None:
        return func(*args, **options)
    shape, strides, dtype = known
    return torch.empty_strided(shape, strides, dtype=dtype, device=_META)


def _is_part(result: Tensor, args: tuple[Any, ...]) -> bool:
    """Whether what comes out lies in memory of what went in."""
    place = result.untyped_storage()._cdata
    tensors = [part for value in args for part in _parts(value) if isinstance(part, Tensor)]
    return any(tensor.untyped_storage()._cdata == place for tensor in tensors)


_SOLUTION = torch.ops.aten.linalg_solve_triangular


def _of_solution(triangle: Tensor, _: Tensor, *, out_val: Tensor, **options: Any) -> int:
    """Operations of a triangular system, which PyTorch does not count: those of a product, for half
    as many take as long."""
    return 2 * triangle.shape[-1] * out_val.numel()


def _is_of_places(args: tuple[Any, ...], options: dict[str, Any]) -> bool:
    """Whether an operation is on whole numbers alone: indices, known before, whose numbers are
    looked at."""
    any_tensor = False
    for value in args:
        for part in _parts(value):
            if isinstance(part, Tensor):
                if part.is_meta or part.is_floating_point() or part.is_complex():
                    return False
                any_tensor = True
    return any_tensor or options.get("device") == _CPU


def _parts(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _as_shapes(value: Any) -> Any:
    return (
        type(value)(map(as_shape, value))
        if isinstance(value, tuple | list) and type(value) in (tuple, list)
        else as_shape(value)
    )


def _bytes(value: Any) -> int:
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(_bytes, value)) if isinstance(value, tuple | list) else 0


def _has_memory(tensor: Tensor) -> bool:
    """Whether it lies anywhere: a rehearsal within real work, or a trace, takes no memory."""
    return tensor.untyped_storage().device != _META


def _zero(tensor: Tensor) -> Any:
    return False if tensor.dtype == torch.bool else 0.0 if tensor.is_floating_point() else 0
