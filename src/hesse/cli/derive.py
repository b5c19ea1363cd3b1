"""`hesse derive`: from a command line to a derivation, and to text, LaTeX, Python or a page."""

import os
from pathlib import Path

import hesse
from hesse.cli.inputs import build_cost
from hesse.errors import HesseValueError


def derivation_of(
    source: str | None,
    *,
    wrt: str | None,
    shapes: str | None,
    given: list[str] | None,
    network: str | None,
    activation: str,
    loss: str | None,
    no_bias: bool,
    data: str | None,
    stagewise: bool,
) -> hesse.Derivation:
    """The derivation that was asked for: of an expression, of ``file.py:name`` with its data, or of a network in words.

    Raises:
        HesseValueError: none of the three was named, or two of them; or what belongs to another.
    """
    way = True if stagewise else None
    if (source is None) == (network is None):
        raise HesseValueError("give one of an expression, file.py:name, and --network, such as --network 2-3-1")
    model = source is not None and ".py:" in source
    _refuse(
        model or network is not None, {"--shapes": shapes, "--given": given}, "an expression: a network or a model knows its own"
    )
    _refuse(not model, {"--data": data}, "a model, file.py:name")
    _refuse(network is None, {"--no-bias": no_bias or None}, "--network")
    _refuse(network is None and not model, {"--loss": loss}, "--network or a model: an expression has its loss in it")
    if network is not None:
        return hesse.derive(hesse.Network(network, activation, loss or "half_sse", not no_bias), wrt, stagewise=way)
    assert source is not None
    if not model:
        return hesse.derive(source, wrt, shapes=shapes, given=given or (), stagewise=way)
    if data is None or loss is None:
        missing = "--data" if data is None else "--loss"
        raise HesseValueError(f"{missing}: a derivation of a model is certified on its own data and loss; name both")
    cost = build_cost(source, data, loss, params=None, penalty=None, dtype=None)
    return hesse.derive(cost, wrt, stagewise=way)


def python_of(derivation: hesse.Derivation, block: str | None, backend: str) -> str:
    """The code of one block, or of all."""
    pairs = list(derivation.blocks) if block is None else [pair_of(block)]
    return "\n\n\n".join(derivation.block(*pair).python(backend) for pair in pairs)


def pair_of(block: str) -> tuple[str, str]:
    """``W1,W2`` as two names."""
    names = [name.strip() for name in block.split(",")]
    if len(names) != 2 or not all(names):
        raise HesseValueError(f"--block: expected two names, such as W1,W2, got {block!r}")
    return names[0], names[1]


def write_text(path: Path, text: str) -> None:
    """Beside its place first, then renamed: whole or not at all."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _refuse(where: bool, options: dict[str, object], belongs: str) -> None:
    for name, value in options.items():
        if where and value is not None:
            raise HesseValueError(f"{name} is for {belongs}")
