"""The state of a run of `hesse.minimize` in a file, written as it goes: a later run takes it up as
if there had been no stop.

A safetensors file of the parameters by name, as ``model.load_state_dict`` takes them; radius,
counts and what the last step knows are texts beside them. No random numbers go from one iteration
to the next: what is drawn has a fixed seed.
"""

import base64
import json
import math
import time
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch

from hesse.errors import HesseFileError, HesseValueError
from hesse.process.files import require_place, write_tensors
from hesse.process.state_dict import read_state_dict
from hesse.taylor.subproblem.cholesky import Guess
from hesse.version import __version__

if TYPE_CHECKING:
    from scipy.optimize import OptimizeResult

_COUNTS = ("nit", "nfev", "njev", "nhev", "shortened")
# Of the time of a run: what writing may take.
_SHARE = 0.05


@final
class Checkpoint:
    """Keeps the file of a run: while it is entered as often as a twentieth of the time allows, and
    once more on the way out, whatever ends the run.

    Args:
        path: of the file.

    Attributes:
        failure: why it could not be written the last time.
    """

    def __init__(self, path: Any) -> None:
        if not str(path).endswith(".safetensors"):
            raise HesseValueError(f"out: expected a path that ends with .safetensors, got {path!r}")
        require_place(path, "out")
        self._path, self._pending, self._due = path, None, 0.0
        self.failure: HesseFileError | None = None

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._write()

    def keep(self, result: "OptimizeResult") -> None:
        """This is where the run is."""
        self._pending = result
        if time.perf_counter() >= self._due:
            self._write()

    def _write(self) -> None:
        if self._pending is None:
            return
        begin = time.perf_counter()
        # A full disk ends no run: it may have room again when the run ends.
        try:
            write(self._pending, self._path, "out")
            self._pending = self.failure = None
        except HesseFileError as error:
            self.failure = error
        end = time.perf_counter()
        self._due = end + (end - begin) / _SHARE


def write(result: "OptimizeResult", path: str | PathLike[str], argument: str) -> None:
    """What a run needs to go on, to a file.

    Raises:
        HesseFileError: it cannot be written; ``argument`` begins the message.
    """
    guess = result.guess
    metadata = {
        "hesse": __version__,
        "method": result.method,
        "cost": str(result.cost),
        "message": result.message,
        "counts": json.dumps({name: int(result[name]) for name in _COUNTS}),
        "multiplier": repr(float(guess.multiplier)),
    }
    if result.radius is not None:
        metadata["radius"] = repr(float(result.radius))
    if guess.lowest is not None:
        lowest = guess.lowest.detach().double().cpu().numpy()
        metadata["lowest"] = base64.b64encode(lowest.astype("<f8").tobytes()).decode()
    tensors = {name: value.contiguous() for name, value in result.parameters.items()}
    write_tensors(path, argument, tensors, metadata)


def read(path: str | PathLike[str], argument: str) -> "OptimizeResult":
    """Where the run that wrote a file was; any state_dict in a file will do.

    Raises:
        HesseFileError: there is no such file, or it holds no tensors, or other texts.
    """
    from scipy.optimize import OptimizeResult

    parameters, texts = read_state_dict(path, argument)
    result = OptimizeResult(parameters=parameters, radius=None)
    for name, parse in _TEXTS.items():
        if name in texts:
            try:
                result.update(parse(texts[name]))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise HesseFileError(
                    f"{argument}: the {name} in {str(path)!r} is not as hesse writes it"
                    f" ({texts[name][:20]!r}); give another file, or the parameters alone"
                ) from error
    multiplier, lowest = result.pop("multiplier", 0.0), result.pop("lowest", None)
    size = sum(value.numel() for value in parameters.values())
    if lowest is not None and len(lowest) == size:
        result.guess = Guess(multiplier, lowest)
    else:
        result.guess = Guess(multiplier)
    return result


def _number(text: str, zero: bool = False) -> float:
    number = float(text)
    if not (0 < number < math.inf or (zero and number == 0)):
        raise ValueError("out of range")
    return number


def _counts(text: str) -> dict[str, int]:
    counts: Any = json.loads(text)
    if any(type(counts[name]) is not int or counts[name] < 0 for name in _COUNTS):
        raise ValueError("no counts")
    return {name: counts[name] for name in _COUNTS}


def _vector(text: str) -> torch.Tensor:
    vector = np.frombuffer(base64.b64decode(text, validate=True), "<f8").astype(float)
    if not np.isfinite(vector).all():
        raise ValueError("not finite")
    return torch.from_numpy(vector)


# Each checked: a file's text is not to be trusted.
_TEXTS: dict[str, Any] = {
    "radius": lambda text: {"radius": _number(text)},
    "counts": _counts,
    "multiplier": lambda text: {"multiplier": _number(text, zero=True)},
    "lowest": lambda text: {"lowest": _vector(text)},
}
