"""The fingerprint of a cost: whether a store is of it."""

import math
from typing import Any

import torch

from hesse.certificates.drawing import drawn
from hesse.certificates.reference import Request, independent, products
from hesse.cost import Cost
from hesse.distributed.agreement import IDENTITY, identity
from hesse.evaluation import value_and_gradient

# By how much J and ‖∇J‖ of the same cost may differ: sums in another order.
_ROUNDING = {torch.float32: 1e-4, torch.float64: 1e-10}


def fingerprint(cost: Cost) -> dict[str, Any]:
    """What tells a cost from others, as plain values: digests of its parameters and data, and the
    value and the gradient of J, in which its model and its loss show."""
    value, gradient = value_and_gradient(cost)
    norm = math.hypot(*(float(torch.linalg.vector_norm(part)) for part in gradient.values()))
    return {
        **identity(cost),
        "value": repr(value),
        "gradient": repr(norm),
        "product": [repr(each) for each in _product(cost)],
    }


def difference(cost: Cost, mine: dict[str, Any], stored: dict[str, Any]) -> str | None:
    """In what two fingerprints differ, in words; ``None`` where they are of one cost."""
    for part, words in IDENTITY.items():
        if mine[part] != stored.get(part):
            return words
    rounding = _ROUNDING[cost.dtype]
    for part, letters in (("value", "J"), ("gradient", "‖∇J‖")):
        here, there = float(mine[part]), float(stored.get(part, "nan"))
        same = math.isclose(here, there, rel_tol=rounding, abs_tol=rounding) or (
            math.isnan(here) and math.isnan(there)
        )
        if not same:
            return f"its model or its loss is another: {letters} is {there:.6g} there"
    # At a minimum J and ∇J are those of many costs; without a floor, for H may be small.
    here, there = (
        [float(each) for each in of.get("product", ["nan"] * 3)] for of in (mine, stored)
    )
    allowed = rounding * max(abs(here[0]), abs(there[0]))
    if not all(
        abs(a - b) <= allowed or a == b or (math.isnan(a) and math.isnan(b))
        for a, b in zip(here, there, strict=True)
    ):
        return "its model, its loss or its penalty is another: a product H v differs"
    return None


def _product(cost: Cost) -> list[float]:
    """Of H v for a fixed random v, by double backward: its length, and its parts along two fixed
    directions."""
    reference, _ = independent(cost, ())
    random = torch.Generator().manual_seed(0)
    v, *along = (
        {name: drawn(parameter, random) for name, parameter in reference.parameters.items()}
        for _ in range(3)
    )
    (found,) = products(reference, [Request(v, reference.layout.names)])
    norm = math.hypot(*(float(torch.linalg.vector_norm(part)) for part in found.values()))
    lengths = [math.sqrt(sum(float(w.square().sum()) for w in each.values())) for each in along]
    return [norm] + [
        sum(float((each[name] * part).sum()) for name, part in found.items()) / (length or 1.0)
        for each, length in zip(along, lengths, strict=True)
    ]
