"""Tensors that have a form and no memory: shape, strides, dtype and device, as if they were there.

What an operation makes of forms PyTorch finds in Python, at a hundred times the price of the tensor
itself. It is asked once for each operation and forms: the layers of a network are alike, and so are
the steps of a recurrence. Of its two kinds of tensor without memory, "meta" takes a tenth of the
time of the other, and is asked where both are known to say the same.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, fx

from hesse.process.circumstances import is_passing
from hesse.process.recent import Recent
from hesse.process.rehearsal import traits_of

aten = torch.ops.aten

_META = torch.device("meta")

# Shape, strides, dtype and device.
Form = tuple[torch.Size, tuple[int, ...], torch.dtype, torch.device]


class NeedsValue(Exception):
    """An operation asks for the numbers of a tensor that has none."""


@final
class FormTensor(Tensor):
    """A tensor of a form. What is made of it has a form and no more.

    Attributes:
        form: its shape, strides, dtype and device.
        node: what it is in a recording (`hesse.capture.recording`).

    Examples:
        >>> x = FormTensor.like(torch.ones(10**6, 1))
        >>> (x @ x.T).shape, x.long().sum(0).dtype
        (torch.Size([1000000, 1000000]), torch.int64)
    """

    form: Form
    node: fx.Node

    # So that what is made is of this class because of what follows, and not otherwise.
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def of(form: Form) -> "FormTensor":
        """One of a form."""
        shape, strides, dtype, device = form
        make: Any = Tensor._make_wrapper_subclass  # type: ignore[attr-defined]
        made = make(FormTensor, shape, strides=strides, dtype=dtype, device=device)
        made.form = form
        return made

    @staticmethod
    def like(tensor: Tensor) -> "FormTensor":
        """One of the form of another tensor."""
        return FormTensor.of(form_of(tensor))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return made_of(func, args, kwargs or {})


def made_of(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """What an operation makes of tensors that have a form, unseen by what watches operations.

    Raises:
        NeedsValue: it depends on numbers that are not there.
    """
    return _anew(forms_made(func, args, options))


def form_of(tensor: Tensor) -> Form:
    """That of any tensor."""
    if isinstance(tensor, FormTensor):
        return tensor.form
    return tensor.shape, tensor.stride(), tensor.dtype, tensor.device


def known_by(value: Any) -> Any:
    """What stands for an argument of an operation where it is looked up: a tensor's form; and other
    values with their types, for 1 is 1.0 to Python.

    Examples:
        >>> known_by([torch.ones(2), 1, None])[1:]
        ((<class 'int'>, 1), None)
    """
    if isinstance(value, Tensor):
        return form_of(value)
    if isinstance(value, tuple | list):
        return tuple(map(known_by, value))
    return None if value is None else (type(value), value)


# What was made last, each in the structure that an operation gives.
_MADE = Recent[Any](20_000)


def forms_made(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """Likewise, of tensors that others may have too."""
    if func is aten.is_same_size.default:
        return args[0].shape == args[1].shape
    given = [known_by(args), *((name, known_by(options[name])) for name in options)]
    key = (func, torch.get_default_dtype(), *given)
    return _MADE.kept(key, partial(_made_by_torch, func, args, options))


def _anew(made: Any) -> Any:
    if isinstance(made, FormTensor):
        return FormTensor.of(made.form)
    return type(made)(map(_anew, made)) if isinstance(made, tuple | list) else made


# Beside what goes entry by entry, products of matrices and views: what of these comes out lies as
# on any device, too.
_ALIKE: set[Any] = {
    aten._efficientzerotensor.default,
    aten._has_same_storage_numel.default,
    aten._log_softmax.default,
    aten._unsafe_view.default,
    aten.amax.default,
    aten.cat.default,
    aten.clone.default,
    aten.copy.default,
    aten.fill.Scalar,
    aten.mean.dim,
    aten.new_ones.default,
    aten.new_zeros.default,
    aten.select_backward.default,
    aten.slice_backward.default,
    aten.stack.default,
    aten.sum.default,
    aten.sum.dim_IntList,
    aten.zeros.default,
    aten.zeros_like.default,
}


def _made_by_torch(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
    traits, place = traits_of(func), options.get("device")
    devices = {tensor.device for tensor in _tensors_in(args)} if place is None else {place}
    if (traits.in_order or traits.views or func in _ALIKE) and len(devices) == 1:
        try:
            # No mode is to see it.
            with torch._C._DisableTorchDispatch():
                given = options if place is None else {**options, "device": _META}
                made = func(*(_without_numbers(value, _META) for value in args), **given)
            return _formed(made, devices.pop())
        # What is wrong is said below.
        except Exception as error:
            if is_passing(error):
                raise
    # Imported here: this brings PyTorch's symbolic shapes, which take a second to load.
    from torch._subclasses import fake_tensor

    try:
        with fake_tensor.FakeTensorMode():
            given = {name: _without_numbers(value) for name, value in options.items()}
            return _formed(func(*map(_without_numbers, args), **given))
    except fake_tensor.DataDependentOutputException as error:
        raise NeedsValue(f"{func} reads a value") from error
    except fake_tensor.DynamicOutputShapeException as error:
        raise NeedsValue(f"{func} has a size that depends on the data") from error


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors_in(part)


def _without_numbers(value: Any, on: torch.device | None = None) -> Any:
    """An argument as PyTorch's own kind of tensor without memory; on its own device, or another."""
    if isinstance(value, Tensor):
        shape, strides, dtype, device = form_of(value)
        return torch.empty_strided(shape, strides, dtype=dtype, device=on or device)
    # A graph has kinds of its own for both.
    if isinstance(value, tuple | list):
        parts = [_without_numbers(part, on) for part in value]
        return parts if isinstance(value, list) else tuple(parts)
    return value


def _formed(made: Any, device: torch.device | None = None) -> Any:
    """What was made, on its own device, or as if on another."""
    if isinstance(made, Tensor):
        return FormTensor.of((made.shape, made.stride(), made.dtype, device or made.device))
    if isinstance(made, tuple | list):
        return type(made)(_formed(part, device) for part in made)
    return made
