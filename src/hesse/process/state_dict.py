"""What PyTorch wrote, read without running what is in it; and a state_dict in a file of either
format."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hesse.errors import HesseFileError, in_a_line
from hesse.process.files import read_tensors, require_file
from hesse.process.quiet import quiet

PICKLED = (".pt", ".pth")
"""How files end that ``torch.save`` wrote."""


def read_pickled(path: Any, argument: str) -> Any:
    """What ``torch.save`` wrote, onto the CPU: tensors, and numbers, texts and collections of them.

    Raises:
        HesseFileError: there is no such file, it is none of PyTorch's, or has objects in it whose
            code would have to be run.
    """
    named = require_file(path, argument)
    try:
        with quiet():  # what it warns of is its own format
            return torch.load(named, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise HesseFileError(
            f"{argument}: {named!r} holds other objects than tensors, and is not read, for that"
            " could run anything; save tensors, such as model.state_dict()"
        ) from error
    # PyTorch's own text depends on what it took the file for.
    except Exception as error:
        raise HesseFileError(
            f"{argument}: {named!r} cannot be read as what torch.save wrote: {in_a_line(error)}"
        ) from error


def read_state_dict(path: Any, argument: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors by name, as ``model.state_dict()`` has them, and the texts beside them.

    Args:
        path: of a ``.pt`` or ``.pth`` file, or of one in safetensors' format.
        argument: its name, which begins an error's message.

    Raises:
        HesseFileError: there is no such file, or it holds something else.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save(torch.nn.Linear(2, 1).state_dict(), f"{folder}/net.pt")
        ...     list(read_state_dict(f"{folder}/net.pt", "start")[0])
        ['weight', 'bias']
    """
    if Path(str(path)).suffix not in PICKLED:
        return read_tensors(path, argument)
    held = read_pickled(path, argument)
    named = f"{argument}: {str(path)!r}"
    advice = "save model.state_dict()"
    if not isinstance(held, Mapping):
        raise HesseFileError(f"{named} holds a {type(held).__name__}, no tensors by name; {advice}")
    for name, value in held.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise HesseFileError(
                f"{named} holds a {type(value).__name__} at {name!r:.60}, where a state_dict has"
                f" tensors by name; {advice}"
            )
    return dict(held), {}
