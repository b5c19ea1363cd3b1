"""The cost that a command line describes."""

from pathlib import Path

import torch
from torch import Tensor, nn

import hesse
from hesse.cli.inputs.data import load_data
from hesse.cli.inputs.references import is_reference, named_object, object_or_result
from hesse.errors import HesseError, HesseKeyError, HesseTypeError, HesseValueError, nearest
from hesse.process.state_dict import read_state_dict

# Losses whose targets are numbers of classes.
_OF_CLASSES = ("cross_entropy", "nll_loss")


def build_cost(
    model: str,
    data: str,
    loss: str,
    *,
    target: str | None = None,
    start: Path | None = None,
    params: list[str] | None = None,
    penalty: float | None = None,
    dtype: str | None = None,
) -> hesse.Cost:
    """The cost that a command line describes.

    The work is done in the model's own dtype, or in ``dtype``: floating arrays are converted to it,
    and integer arrays become int64, which changes no value.

    Raises:
        HesseError: a file, a name or a value that cannot be used, or a model that fails on the
            data.
    """
    # A file that cannot be read is told before the model is built.
    state = {} if start is None else read_state_dict(start, "--start")[0]
    module = load_model(model)
    if dtype is not None:
        module = module.to(getattr(torch, dtype))
    _load(module, state, model)
    floating = next(
        (p.dtype for p in module.parameters() if p.is_floating_point()), torch.get_default_dtype()
    )
    samples = load_data(data, floating, target, loss in _OF_CLASSES)
    criterion = named_object("--loss", loss) if is_reference(loss) else loss
    try:
        cost = hesse.Cost(module, criterion, samples, params=params or None, penalty=penalty)
    except HesseError as error:
        # Without a cause it is hesse's own word on an argument, which says enough.
        if error.__cause__ is None:
            raise
        raise HesseValueError(  # the user's own model or loss failed
            f"MODEL: {model} and --loss {loss} could not be evaluated on --data {data}: {error}"
        ) from error
    return cost if start is None else _at(cost, state, set(module.state_dict()), start)


def load_model(spec: str) -> nn.Module:
    """The module that ``file.py:name`` names: a module, or a function or class that makes one when
    called with nothing."""
    model = object_or_result("MODEL", spec, nn.Module)
    if not isinstance(model, nn.Module):
        raise HesseTypeError(
            f"MODEL: expected an nn.Module, or a function of no arguments that makes one; {spec}"
            f" gives {type(model).__name__}"
        )
    return model


def _load(module: nn.Module, state: dict[str, Tensor], model: str) -> None:
    """Copy a state into a model, buffers and what does not train too."""
    held = module.state_dict()
    taken = {name: value for name, value in state.items() if name in held}
    for name, value in taken.items():
        if value.shape != held[name].shape or value.is_complex():
            complex_ = " and complex numbers" if value.is_complex() else ""
            raise HesseValueError(
                f"--start: {name!r} has shape {tuple(value.shape)}{complex_}, and"
                f" {tuple(held[name].shape)} in {model}; give the state of the same network"
            )
    with torch.no_grad():
        for name, value in taken.items():
            held[name].copy_(value)


def _at(cost: hesse.Cost, state: dict[str, Tensor], of_model: set[str], start: Path) -> hesse.Cost:
    """The cost at a state that its model has, and its loss too where that has parameters."""
    names = set(cost.layout.names)
    unknown = [name for name in state if name not in of_model | names]
    if unknown:
        raise HesseKeyError(
            f"--start: {str(start)!r} has {unknown[0]!r}, which the model has not; the nearest"
            f" names in it: {nearest(unknown[0], sorted(of_model | names))}"
        )
    missing = [name for name in cost.layout.names if name not in state]
    if missing:
        raise HesseKeyError(
            f"--start: {str(start)!r} lacks {missing[0]!r}, which is differentiated; give a file"
            " that has it, or leave it out by --params"
        )
    return cost.at({name: state[name] for name in cost.layout.names})
