"""Numbers of bytes, where to write, and what has to be installed: looked at before any work."""

import importlib.util
import re
from pathlib import Path

from hesse.errors import HesseImportError, HesseValueError
from hesse.process.files import require_place

# Powers of 1000, and of 1024 with an i, in capitals.
_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", start=1)
    for unit, base in (("", 1000), ("B", 1000), ("IB", 1024))
}
# More than any machine has, and few enough to count with.
_MOST_BYTES = 2.0**63


def parse_bytes(text: str) -> int:
    """A number of bytes as a person writes it.

    Examples:
        >>> parse_bytes("2GB"), parse_bytes("1.5 MiB")
        (2000000000, 1572864)
    """
    match = re.fullmatch(r"(\d+(?:\.\d*)?)\s*([A-Za-z]*)", text.strip())
    factor = _UNITS.get(match[2].upper()) if match else None
    number = float(match[1]) * factor if match and factor else 0.0
    if not 1 <= number < _MOST_BYTES:
        raise HesseValueError(
            f"--memory: {text[:40]!r} is not a number of bytes; write for"
            " instance 500MB, 2GB or 1.5GiB"
        )
    return int(number)


def check_writable(
    option: str, path: Path | None, suffixes: tuple[str, ...], size: int = 1
) -> None:
    """Refuse, before any work, a file that could not be written after it; of so many bytes, as far
    as that is known."""
    if path is None:
        return
    if path.suffix.lower() not in suffixes:
        raise HesseValueError(f"{option}: {str(path)!r} should end with {' or '.join(suffixes)}")
    require_place(path, option, size)


def require(module: str, extra: str, what: str) -> None:
    """Refuse, before any work, what needs a package that is not installed."""
    if importlib.util.find_spec(module) is None:
        raise HesseImportError(
            f"{what} needs the package {module}; install it with: pip install 'hesse[{extra}]'"
        )
