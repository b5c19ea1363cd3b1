"""A .csv file: names of columns, and numbers below them."""

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from hesse.errors import HesseFileError, HesseKeyError, HesseValueError, nearest


def read_csv(path: Path, target: str | None, classes: bool) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, (N, d), and what is predicted.

    Args:
        path: of the file: names in its first line, separated by commas, and numbers in the others.
        target: the name of the column that is predicted; by default the last.
        classes: whether it holds numbers of classes, (N,) int64; else it is (N, 1).

    Raises:
        HesseError: a line, by its number, or a column that is not so.
    """
    try:
        # A mark that some editors begin a file with is no part of a name.
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = ((reader.line_num, cells) for cells in reader if cells)
            names = _names(path, lines)
            place = _place(path, names, target)
            rows = [
                _row(f"--data: {str(path)!r}, line {number}", cells, names)
                for number, cells in lines
            ]
    except UnicodeDecodeError as error:
        raise HesseFileError(
            f"--data: {str(path)!r} is not text in UTF-8 (byte {error.start})"
        ) from error
    except csv.Error as error:
        raise HesseFileError(
            f"--data: {str(path)!r} cannot be read as lines of cells: {error}"
        ) from error
    if not rows:
        raise HesseValueError(f"--data: {str(path)!r} has names of columns, and no numbers below")
    table = np.array(rows)
    targets = table[:, place]
    if classes:
        odd = np.flatnonzero((targets % 1 != 0) | (targets < 0))
        if len(odd):
            raise HesseValueError(
                f"--data: {str(path)!r}, column {names[place]!r}: expected numbers of classes, 0,"
                f" 1, ..., got {targets[odd[0]]:g} in row {odd[0] + 1}"
            )
    inputs = np.delete(table, place, axis=1)
    return inputs, targets.astype(np.int64) if classes else targets[:, None]


def _names(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[str]:
    _, cells = next(lines, (0, []))
    names = [cell.strip() for cell in cells]
    said = f"--data: {str(path)!r}"
    if not names:
        raise HesseValueError(f"{said} is empty; expected names of columns, and numbers below")
    if len(names) < 2:
        raise HesseValueError(
            f"{said} has one column, {names[0][:60]!r}; expected inputs and a target, separated by"
            " commas"
        )
    if all(_number(name) is not None for name in names):
        raise HesseValueError(
            f"{said}: its first line holds numbers, {', '.join(names)[:60]}; expected the names of"
            " its columns"
        )
    for place, name in enumerate(names):
        if not name:
            raise HesseValueError(
                f"{said}: column {place + 1} has no name; name it, or leave it out (pandas writes"
                " none with to_csv(index=False))"
            )
        if name in names[:place]:
            raise HesseValueError(f"{said}: two columns are named {name!r}; name them apart")
    return names


def _place(path: Path, names: Sequence[str], target: str | None) -> int:
    if target is None:
        return len(names) - 1
    if target not in names:
        raise HesseKeyError(
            f"--target: {str(path)!r} has no column {target!r}; the nearest names in it:"
            f" {nearest(target, list(names))}"
        )
    return names.index(target)


def _row(where: str, cells: list[str], names: list[str]) -> list[float]:
    if len(cells) != len(names):
        raise HesseValueError(
            f"{where}: expected {len(names)} cells, as many as there are names, got {len(cells)}"
        )
    numbers = [_number(cell) for cell in cells]
    for name, cell, number in zip(names, cells, numbers, strict=True):
        if number is None or not math.isfinite(number):
            raise HesseValueError(
                f"{where}, column {name!r}: expected a finite number, got {cell[:60]!r}; leave the"
                " line out, or write a number for it"
            )
    return [number for number in numbers if number is not None]


def _number(cell: str) -> float | None:
    try:
        # Python's own way to write numbers in groups is not that of a table.
        return None if "_" in cell else float(cell)
    except ValueError:
        return None
