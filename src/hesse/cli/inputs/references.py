"""Objects in the user's files: ``file.py:name`` runs that file, as ``python file.py`` would, and
takes what it calls ``name``."""

import importlib.util
import inspect
import os
import sys
import textwrap
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hesse.errors import (
    HesseError,
    HesseFileError,
    HesseKeyError,
    HesseTypeError,
    HesseValueError,
    nearest,
)

# Characters of what the user's own code says went wrong, which may be pages.
_LONGEST = 500


def is_reference(spec: str) -> bool:
    return ".py:" in spec


def object_or_result(argument: str, spec: str, wanted: type) -> Any:
    """The object behind ``file.py:name``, or what it makes where it is a function of no
    arguments."""
    named = named_object(argument, spec)
    # A module is callable too, and is what is wanted; its class is called.
    if not callable(named) or (isinstance(named, wanted) and not inspect.isclass(named)):
        return named
    try:
        inspect.signature(named).bind()
    except (TypeError, ValueError) as error:
        raise HesseTypeError(
            f"{argument}: {spec} needs arguments ({error}); give a function that needs none"
        ) from None
    return _run(argument, spec, named)


def named_object(argument: str, spec: str) -> Any:
    file, colon, name = spec.rpartition(":")
    if not colon or not file.endswith(".py") or not name:
        raise HesseValueError(f"{argument}: expected file.py:name, got {spec!r}")
    path = Path(file)
    check_file(argument, path)
    module = _module(argument, path.resolve())
    if not hasattr(module, name):
        known = [key for key in vars(module) if not key.startswith("_")]
        raise HesseKeyError(
            f"{argument}: {file} has no {name!r}; the nearest names in it:"
            f" {nearest(name, known) or 'none'}"
        )
    return getattr(module, name)


def check_file(argument: str, path: Path) -> None:
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise HesseFileError(f"{argument}: {str(path)!r} is a folder, not a file")
    if not os.path.isdir(path.parent):
        raise HesseFileError(f"{argument}: there is no folder {str(path.parent)!r}")
    # Of the same kind: a .npz for a .npz.
    try:
        others = [p.name for p in path.parent.iterdir() if p.suffix == path.suffix]
    except OSError:  # a folder that may not be listed
        others = []
    hint = (
        f"; the nearest {path.suffix} files there: {nearest(path.name, sorted(others))}"
        if others
        else ""
    )
    raise HesseFileError(f"{argument}: there is no file {str(path)!r}{hint}")


def _module(argument: str, path: Path) -> Any:
    """The user's file as a module, run once, able to import its neighbours as a script is."""
    # A name that no import gives, and the same for one file in one run: MODEL, --data and --loss
    # may name the same file, which is run once.
    name = f"hesse_user_{path.stem}_{abs(hash(path)):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    sys.modules[name] = module  # dataclasses and pickling look a class's module up by name
    try:
        _run(argument, str(path), partial(spec.loader.exec_module, module))
    except HesseError:
        del sys.modules[name]
        raise
    return module


def _run(argument: str, spec: str, function: Callable[[], Any]) -> Any:
    """Call the user's code; what it raises is told with the line of their file that it came
    from."""
    try:
        return function()
    except (Exception, SystemExit) as error:
        file = Path(spec.partition(".py:")[0]).with_suffix(".py").name
        # The last frame in the user's file: deeper ones are libraries'.
        lines = [
            frame.lineno
            for frame in traceback.extract_tb(error.__traceback__)
            if Path(frame.filename).name == file
        ]
        where = f" at line {lines[-1]}" if lines else ""
        raise HesseValueError(
            f"{argument}: running {spec} failed{where}: {type(error).__name__}:"
            f" {textwrap.shorten(str(error), _LONGEST)}"
        ) from error
