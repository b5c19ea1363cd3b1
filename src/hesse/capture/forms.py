"""Tensors that have a form and no memory: shape, strides, dtype and device, as if they were there.

What an operation makes of forms PyTorch finds in Python, at a hundred times the price of the tensor
itself. It is asked once for each operation and forms: the layers of a network are alike, and so are
the steps of a recurrence.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, final

import torch
from torch import Tensor, fx

from hesse.process.recent import Recent

aten = torch.ops.aten

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

    Example:
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

    Example:
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


def _made_by_torch(func: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
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


def _without_numbers(value: Any) -> Any:
    """An argument as PyTorch's own kind of tensor without memory."""
    if isinstance(value, Tensor):
        shape, strides, dtype, device = form_of(value)
        return torch.empty_strided(shape, strides, dtype=dtype, device=device)
    return type(value)(map(_without_numbers, value)) if type(value) in (tuple, list) else value


def _formed(made: Any) -> Any:
    if isinstance(made, Tensor):
        return FormTensor.like(made)
    return type(made)(map(_formed, made)) if isinstance(made, tuple | list) else made
