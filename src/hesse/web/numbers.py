"""What the page for numbers asks: H of a small network with names on its rows, and each of its
blocks as its formula with the numbers put in."""

import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import torch

import hesse
from hesse.derivation.calculus.expression import (
    Expression,
    Partial,
    Term,
    indices,
    of,
)
from hesse.derivation.calculus.program import Program, Quantity, names_in
from hesse.derivation.check.valuation import Valuation
from hesse.derivation.formula import BlockFormula, Formula
from hesse.derivation.show.html.mathml import Maths, PageWriter
from hesse.derivation.show.text_writer import TextWriter
from hesse.errors import HesseValueError
from hesse.layout import Layout
from hesse.web import arrays
from hesse.web.numbered_network import MOST_SAMPLES, NumberedNetwork, random_arrays, small_network
from hesse.web.question import Question

# Samples whose numbers are shown one by one; of the others the sum.
_SHOWN = 6


def drawn(said: Mapping[str, str]) -> dict[str, Any]:
    """Arrays to begin with, as text: random by a seed.

    Examples:
        >>> print(drawn({"network": "1-1, no biases", "samples": "1", "seed": "3"})["arrays"])
        W1 = [[2.04]]
        x = [[-2.56]]
        y = [[0.8]]
    """
    network = small_network(Question.of(said).network)
    samples = whole(said, "samples", 1, MOST_SAMPLES)
    found = random_arrays(network, samples, whole(said, "seed", 0, 2**32))
    return {"arrays": arrays.written(found)}


def filed(said: Mapping[str, str]) -> dict[str, Any]:
    """The arrays of a file as text, in the place of those of the same names."""
    try:
        content = base64.b64decode(said.get("file", ""), validate=True)
    except binascii.Error as error:
        raise HesseValueError(f"file: expected its bytes in base64: {error}") from error
    return {
        "arrays": arrays.written(arrays.read(said.get("arrays", "")) | arrays.from_file(content))
    }


def matrix(said: Mapping[str, str]) -> dict[str, Any]:
    """H at given numbers, with its eigenvalues."""
    start = time.perf_counter()
    numbered = NumberedNetwork.of(said)
    model = hesse.quadratic(numbered.cost, dense=True)
    H = model.hessian
    assert isinstance(H, hesse.BlockHessian)
    return {
        "network": str(numbered.network),
        "samples": numbered.samples,
        "value": model.value,
        "parameters": [{"name": name, "size": H.layout.sizes[name]} for name in H.layout.names],
        "names": entry_names(H.layout),
        "matrix": H.dense().tolist(),
        "eigenvalues": H.eigvalsh().tolist(),
        "inertia": str(H.inertia()),
        "tolerance": H.tolerance,
        "certificate": str(H.certificate or "not certified"),
        "seconds": round(time.perf_counter() - start, 3),
    }


def block(said: Mapping[str, str]) -> dict[str, Any]:
    """The formula of one block: each of its terms as factors with their numbers, and what it adds
    to every entry.

    An entry of a term is, for each sample, the product of its ``factors`` at the entry's indices,
    times its ``coefficient``; ``values`` has the sum over the samples (or their mean), and the sum
    of the terms is the entry of H.
    """
    numbered = NumberedNetwork.of(said)
    rows, columns = said.get("rows", ""), said.get("columns", "")
    wrt = ", ".join(name for name in numbered.network.parameters if name in (rows, columns))
    formula = hesse.derive(numbered.network, wrt or rows).block(rows, columns)
    program = formula.derivation.program
    writer, text = PageWriter(program), TextWriter(program)
    maths = Maths(writer)

    def written(expression: Expression) -> str:
        return str(maths(writer.write(expression)))

    def factor(part: Expression) -> dict[str, Any]:
        said = {"formula": written(part), "text": text.write(part)}
        return {**said, **_values_of(part, shown)}

    sides = (formula.rows, formula.columns)
    shown = [_valuation(program, numbered, k) for k in range(min(_SHOWN, numbered.samples))]
    return {
        "left": written(of(Partial(program.cost.entry, sides))),
        "right": written(formula.expression),
        "indices": [[index.name for index in side.indices] for side in sides],
        "shapes": [[index.size for index in side.indices] for side in sides],
        "terms": [
            {
                "kind": term.kind,
                "coefficient": text.number(term.coefficient),
                "number": float(term.coefficient),
                "factors": list(map(factor, _parts(term))),
                "values": _added(formula, term, numbered),
            }
            for term in formula.expression.terms
        ],
        "defined": [
            [written(of(quantity.entry)), written(quantity.definition)]
            for quantity in _named(formula.expression, program, numbered)
            if isinstance(quantity.definition, Expression)
        ],
        "samples": numbered.samples,
        "mean": program.samples == "mean",
    }


def entry_names(layout: Layout) -> list[str]:
    """A name for each row of H, counted from one as in formulas.

    Examples:
        >>> entry_names(Layout(("W1", "b1"), ((1, 2), (1,))))
        ['W1[1,1]', 'W1[1,2]', 'b1[1]']
    """
    return [
        f"{name}[{','.join(str(k + 1) for k in place)}]"
        for name, shape in zip(layout.names, layout.shapes, strict=True)
        for place in product(*map(range, shape))
    ]


def whole(said: Mapping[str, str], name: str, least: int, most: int) -> int:
    """A whole number of a form.

    Raises:
        HesseValueError: it is none, or not between the two.
    """
    text = said.get(name, "").strip()
    # No more digits than Python reads at once.
    if not (text.isascii() and text.isdecimal() and len(text) < 20 and least <= int(text) <= most):
        raise HesseValueError(
            f"{name}: expected a whole number from {least:,} to {most:,}, got {text[:30]!r}"
        )
    return int(text)


def _valuation(program: Program, numbered: NumberedNetwork, sample: int) -> Valuation:
    x, y = numbered.x[sample], numbered.y[sample]
    return Valuation(program, {**numbered.parameters, "x": x, "y": y})


def _parts(term: Term) -> list[Expression]:
    """The factors of a term that stand outside its sum, and the sum as one of them."""
    inside = [f for f in term.factors if not set(indices(f)).isdisjoint(term.bound)]
    outside = [of(factor) for factor in term.factors if factor not in inside]
    if term.bound:
        outside.append(Expression((Term(Fraction(1), tuple(inside), term.bound),)))
    return outside


def _values_of(part: Expression, shown: list[Valuation]) -> dict[str, Any]:
    """The array of a factor for each sample, an axis for each of its indices."""
    axes = indices(part)
    values = torch.stack([valuation.array(part, axes) for valuation in shown])
    return {
        "axes": [index.name for index in axes],
        "shape": list(values.shape[1:]),
        "values": values.flatten(1).tolist(),
    }


def _added(formula: BlockFormula, term: Term, numbered: NumberedNetwork) -> list[float]:
    """What one term adds to each entry of the block, row by row."""
    alone = replace(formula.derived, expression=Expression((term,)))
    return Formula(alone, formula.derivation).evaluate(**numbered.by_name).reshape(-1).tolist()


def _named(expression: Expression, program: Program, numbered: NumberedNetwork) -> list[Quantity]:
    """The quantities that a formula names beside those of the network itself, and those that they
    name."""
    known, _ = numbered.network.program()
    named, look = set[str](), list(names_in(expression))
    while look:
        quantity = program.by_name.get(look.pop())
        if quantity and quantity.name not in known.by_name and quantity.name not in named:
            named.add(quantity.name)
            look += quantity.mentions
    return [quantity for quantity in program.quantities if quantity.name in named]
