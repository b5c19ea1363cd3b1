"""Python's collector of cycles at rest, while much is made that is all kept."""

import contextlib
import gc

from hesse.process.switches import Switch


def _write(collecting: bool) -> None:
    (gc.enable if collecting else gc.disable)()


_COLLECTING = Switch(gc.isenabled, _write, False)


def uncollected() -> contextlib.AbstractContextManager[None]:
    """No collection meanwhile: a full one walks all of PyTorch's own objects, some 100 ms, and a
    trace with its plan makes so many that it would walk them two or three times.

    Examples:
        >>> with uncollected():
        ...     gc.isenabled()
        False
    """
    return _COLLECTING.turned()
