"""Failures of the user's model, loss or function turned into errors that name the argument and what
may help; and checks that predictions and targets fit, where PyTorch would broadcast or crash."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from hesse.data.batch import Batch, tensors_in
from hesse.errors import HesseError, HesseValueError, in_a_line
from hesse.losses.loss import Loss
from hesse.parameters import Parameters


@contextlib.contextmanager
def diagnosed(what: str, where: str, parameters: Parameters, given: Any) -> Iterator[None]:
    """Turn an error of the user's code into one that says which argument failed on what, and what
    may help.

    Args:
        what: the argument.
        where: the batch, in words.
        parameters: θ.
        given: what the code was called with.
    """
    try:
        yield
    except (HesseError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        advice = next(
            (
                hint
                for remedy in _REMEDIES
                if (hint := remedy(what, error, parameters, tensors_in(given)))
            ),
            "",
        )
        failure = f"{what}: it failed on {where}{_shapes(given)} with {in_a_line(error)}"
        raise HesseValueError(f"{failure}; {advice}" if advice else failure) from error


def _shapes(given: Any) -> str:
    shapes = [f"{_name(tensor.dtype)} {tuple(tensor.shape)}" for tensor in tensors_in(given)]
    more = ", ..." if len(shapes) > 4 else ""
    return f" ({', '.join(shapes[:4])}{more})" if shapes else ""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


# ---------------------------------------------------------------- what may help

Remedy = Callable[[str, Exception, Parameters, list[Tensor]], str]


def _of_complex(what: str, error: Exception, parameters: Parameters, given: list[Tensor]) -> str:
    return (
        "an input is complex: give its real and imaginary parts, torch.view_as_real(x)"
        if any(map(torch.is_complex, given))
        else ""
    )


def _of_dtype(what: str, error: Exception, parameters: Parameters, given: list[Tensor]) -> str:
    if not any(word in str(error) for word in ("dtype", "scalar type", "not implemented for")):
        return ""
    computed = {p.dtype for p in parameters.values()}
    names = " and ".join(sorted(_name(dtype) for dtype in computed))
    cast = f"x.to(torch.{_name(next(iter(computed)))})"
    if any(word in str(error) for word in ("BFloat16", "Half", "bfloat16", "float16")):
        return (
            f"the parameters are computed in {names}: a cast to half precision inside the forward"
            " does not fit, take it out"
        )
    if any(t.is_floating_point() and t.dtype not in computed for t in given):
        return f"the inputs and the parameters ({names}) differ in dtype: cast the inputs, {cast}"
    if any(not t.is_floating_point() for t in given):
        return f"an input is of integers and the parameters are {names}: cast it, {cast}"
    return ""


def _of_arguments(what: str, error: Exception, parameters: Parameters, given: list[Tensor]) -> str:
    if what != "model" or not isinstance(error, TypeError | AttributeError):
        return ""
    return (
        "a mapping X is given as model(**X) where its keys are the forward's arguments, a tuple as"
        " model(*X) where the forward takes so many, and either as model(X) where not"
    )


def _of_shapes(what: str, error: Exception, parameters: Parameters, given: list[Tensor]) -> str:
    if not any(word in str(error) for word in ("shape", "size", "dimension", "channels")):
        return ""
    return (
        "do the inputs have as many features as the model expects, and the targets as many entries"
        " as it predicts?"
    )


# In order: the first that has something to say is heard.
_REMEDIES: tuple[Remedy, ...] = (_of_complex, _of_dtype, _of_arguments, _of_shapes)


# ---------------------------------------------------------------- predictions and targets


def require_aligned_targets(loss: Loss | None, prediction: Any, batch: Batch, index: int) -> None:
    """Targets of as many rows as the predictions, and of shapes that broadcasting does not compare
    across samples."""
    target = batch.targets
    if not isinstance(prediction, Tensor) or not isinstance(target, Tensor):
        return
    if batch.flat and (prediction.ndim == 0 or len(prediction) != len(target)):
        raise HesseValueError(
            f"data: batch {index} has {batch.size} inputs, and its targets have shape"
            f" {tuple(target.shape)}; the first axis of every tensor counts the samples, or the"
            f" rows of the prediction, which has shape {tuple(prediction.shape)}"
        )
    if loss is not None and "binary_cross_entropy" in loss.name and not target.is_floating_point():
        raise HesseValueError(
            f"data: the targets of batch {index} are {_name(target.dtype)}, and {loss.name} takes"
            " probabilities: cast them, y.float()"
        )
    # Broadcasting (N, 1) against (N,) would compare every sample with every other one's target.
    if loss is not None and loss.elementwise and prediction.ndim != target.ndim:
        raise HesseValueError(
            f"loss: {loss.name} got predictions of shape {tuple(prediction.shape)} and targets of"
            f" shape {tuple(target.shape)}, which would be compared across samples; give both the"
            " same shape, for instance with y.reshape(-1, 1)"
        )


def require_class_labels(loss: Loss | None, prediction: Any, target: Any, index: int) -> None:
    """Labels that name classes of the prediction, before an indexing kernel meets others."""
    if (
        loss is None
        or loss.ignored is None
        or not isinstance(prediction, Tensor)
        or not isinstance(target, Tensor)
    ):
        return
    if target.is_floating_point() and target.ndim == prediction.ndim:
        return  # class probabilities
    if target.dtype != torch.int64:
        raise HesseValueError(
            f"data: the targets of batch {index} are {_name(target.dtype)}, and {loss.name} takes"
            " the numbers of classes as int64: cast them, y.long(); or give the classes'"
            " probabilities, of the prediction's shape"
        )
    classes = prediction.shape[1 if prediction.ndim > 1 else 0] if prediction.ndim else 0
    wrong = target[(target != loss.ignored) & ((target < 0) | (target >= classes))]
    if wrong.numel():
        raise HesseValueError(
            f"data: batch {index} has {wrong.numel()} labels that name no class, the first of them"
            f" {int(wrong[0])}; the model predicts {classes} classes, 0 to {classes - 1}: do labels"
            " start at 1, or is the last layer too narrow?"
        )
