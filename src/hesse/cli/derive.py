"""`hesse derive`: from a command line to a derivation, and to text, LaTeX, Python or a page."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hesse
from hesse.cli.documents import formula_fields
from hesse.cli.inputs.cost import build_cost
from hesse.cli.inputs.places import check_writable, require
from hesse.derivation.code.module import module
from hesse.derivation.formula import Formula
from hesse.errors import HesseValueError
from hesse.process.files import write_text


def derivation_of(
    source: str | None,
    *,
    wrt: str | None,
    shapes: str | None,
    given: list[str] | None,
    network: str | None,
    activation: str | None,
    loss: str | None,
    no_bias: bool,
    data: str | None,
    target: str | None,
    start: Path | None,
    stagewise: bool,
    certify: bool,
) -> hesse.Derivation:
    """The derivation that was asked for: of an expression, of ``file.py:name`` with its data, or of
    a network in words.

    Raises:
        HesseValueError: none of the three was named, or two of them; or what belongs to another.
    """
    way = True if stagewise else None  # None: by layer from four layers on
    if source is not None and source.endswith(".py"):
        raise HesseValueError(f"{source!r} is a file; name the model in it, such as {source}:net")
    if (source is None) == (network is None):
        raise HesseValueError(
            "give one of an expression, file.py:name, and --network, such as --network 2-3-1"
        )
    model = source is not None and ".py:" in source
    _require_unset(
        model or network is not None,
        {"--shapes": shapes, "--given": given},
        "an expression: a network or a model knows its own",
    )
    _require_unset(
        not model, {"--data": data, "--target": target, "--start": start}, "a model, file.py:name"
    )
    _require_unset(
        network is None, {"--activation": activation, "--no-bias": no_bias or None}, "--network"
    )
    _require_unset(
        network is None and not model,
        {"--loss": loss},
        "--network or a model: an expression has its loss in it",
    )
    if network is not None:
        return hesse.derive(
            hesse.Network(network, activation or "sigmoid", loss or "half_sse", not no_bias),
            wrt,
            stagewise=way,
            certify=certify,
        )
    assert source is not None
    if not model:
        if wrt is None:
            raise HesseValueError(
                "--wrt: an expression needs the names of its parameters, such as --wrt W1,W2"
            )
        return hesse.derive(
            source, wrt, shapes=shapes, given=given or (), stagewise=way, certify=certify
        )
    if data is None or loss is None:
        missing = "--data" if data is None else "--loss"
        raise HesseValueError(
            f"{missing}: a derivation of a model is certified on its own data and loss; name both"
        )
    cost = build_cost(source, data, loss, target=target, start=start)
    return hesse.derive(cost, wrt, stagewise=way, certify=certify)


@dataclass(frozen=True)
class Printed:
    """What is made of a derivation: text, unless LaTeX, Python or a page is asked for.

    Attributes:
        block: the rows and columns of the only block that is wanted; None for all.
        gradient: the parameter whose first derivative is wanted instead.
        product: the parameter at which the product H v is wanted instead.
        convexity: whether verdicts on convexity are wanted instead.
        reading: of text, as in `hesse.Derivation.text`.
        latex, python: whether one of them is printed.
        backend: of Python.
        html: the page that is written.

    Raises:
        HesseError: what cannot go together, or a page that could not be written.
    """

    block: tuple[str, str] | None = None
    reading: str | None = None
    latex: bool = False
    python: bool = False
    backend: str | None = None
    html: Path | None = None
    gradient: str | None = None
    product: str | None = None
    convexity: bool = False

    # Before the derivation, which takes longer.
    def __post_init__(self) -> None:
        chosen = {"--html": self.html is not None, "--latex": self.latex, "--python": self.python}
        asked = [name for name, wanted in chosen.items() if wanted]
        if len(asked) > 1:
            raise HesseValueError(
                f"{' and '.join(asked)}: give one of them, or call hesse derive once for each"
            )
        _require_unset(
            bool(asked),
            {"--reading": self.reading},
            f"text; leave it out beside {asked[0]}" if asked else "",
        )
        parts = {"--block": self.block, "--gradient": self.gradient, "--product": self.product}
        parts["--convexity"] = self.convexity or None
        alone = [name for name, wanted in parts.items() if wanted is not None]
        if len(alone) > 1:
            raise HesseValueError(
                f"{' and '.join(alone)}: give one of them, or call hesse derive once for each"
            )
        if self.convexity and (asked or self.reading):
            raise HesseValueError(
                "--convexity is a verdict in words; leave out"
                f" {asked[0] if asked else '--reading'}, or give --json"
            )
        _require_unset(not self.python, {"--backend": self.backend}, "--python")
        if self.html is not None:
            check_writable("--html", self.html, (".html",))
            require("jinja2", "html", "--html")

    def fields(self, d: hesse.Derivation) -> dict[str, Any]:
        """The same for a document: each formula in every way that it is written."""
        backend = self.backend or "numpy"
        formula = self._formula(d)
        shown: dict[str, Any]
        if self.convexity:
            shown = {"convexity": [d.convexity(name) for name in d.parameters]}
        elif formula is not None and self.block is None:
            kind = "product" if self.gradient is None else "gradient"
            name = self.product if self.gradient is None else self.gradient
            shown = {kind: {"parameter": name, **formula_fields(formula, backend)}}
        else:
            pairs = [self.block] if self.block is not None else list(d.blocks)
            # A vector has none, but first derivatives.
            shown = {
                "blocks": [
                    {
                        "rows": rows,
                        "columns": columns,
                        **formula_fields(d.block(rows, columns), backend),
                    }
                    for rows, columns in pairs
                ],
            }
            if not d.blocks:
                shown["jacobians"] = [
                    {"parameter": name, **formula_fields(d.jacobian(name), backend)}
                    for name in d.parameters
                ]
        return {
            "parameters": list(d.parameters),
            "certificate": d.certificate,
            "html": self.html,
            **shown,
        }

    def of(self, d: hesse.Derivation) -> str:
        """What is to be printed; a page is written first."""
        if self.convexity:
            return "\n".join(str(d.convexity(name)) for name in d.parameters)
        formula = self._formula(d)
        if self.html is not None:
            write_text(self.html, "--html", (formula or d).html())
            return f"wrote {self.html}"
        if self.latex:
            # A block is shown with its lines.
            return (formula.alone if formula and self.block else formula or d).latex()
        if self.python:
            return module([formula] if formula else d.formulas, self.backend or "numpy")
        return (formula or d).text(self.reading or "indices")

    def _formula(self, d: hesse.Derivation) -> Formula | None:
        """The only formula that is wanted; ``None`` for all."""
        if self.gradient is not None:
            return d.gradient(self.gradient)
        if self.product is not None:
            return d.product(self.product)
        return None if self.block is None else d.block(*self.block)


def pair_of(block: str) -> tuple[str, str]:
    """``W1,W2`` as two names."""
    names = [name.strip() for name in block.split(",")]
    if len(names) != 2 or not all(names):
        raise HesseValueError(f"--block: expected two names, such as W1,W2, got {block!r}")
    return names[0], names[1]


def _require_unset(where: bool, options: dict[str, object], belongs: str) -> None:
    """Where this holds, none of the options may be given; they belong to something else."""
    for name, value in options.items():
        if where and value is not None:
            raise HesseValueError(f"{name} is for {belongs}")
