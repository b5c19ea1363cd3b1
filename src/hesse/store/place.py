"""Where a store is, or can be begun."""

import os
from pathlib import Path
from typing import Any

from hesse.errors import HesseFileError, HesseValueError
from hesse.process.files import require_folder_place, require_path


def is_store(path: Any) -> bool:
    """Whether a path is of a store's folder."""
    return os.path.isfile(os.path.join(path, "zarr.json"))


def require_store_place(path: Any, argument: str) -> Path:
    """Where a store is, or where it can be begun, tried out.

    Raises:
        HesseTypeError, HesseValueError: the path is none, or a file's.
        HesseFileError: something else is there, or it could not be made.
    """
    place = Path(require_path(path, argument))
    if place.suffix.lower() == ".safetensors":
        raise HesseValueError(
            f"{argument}: {str(place)!r} is a file for H.save(...); name a folder, such as"
            f" {str(place.with_suffix('.zarr'))!r}"
        )
    if not os.path.lexists(place):
        require_folder_place(place, argument)
    elif not is_store(place):
        raise not_a_store(place, argument)
    return place


def not_a_store(place: Path, argument: str) -> HesseFileError:
    kind = "a folder without zarr.json" if os.path.isdir(place) else "a file"
    return HesseFileError(
        f"{argument}: {str(place)!r} is {kind}, not a Hessian that hesse stored; name another place"
    )


def names_store(path: Any) -> bool:
    """Whether a path is to be a store, and not a file, by its ending."""
    return os.path.normpath(path).lower().endswith(".zarr")
