"""The cost of a small network and its quadratic model over a plane through its weights."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

import hesse
from hesse.errors import HesseError, HesseKeyError, HesseValueError
from hesse.plot.section import orthonormal
from hesse.taylor import Step
from hesse.web.numbered_network import NumberedNetwork
from hesse.words.shapes import Float

POINTS = 61  # to a side: the middle one is θ itself
STEPS = 25  # radii, and bounds M, for which steps are at hand
_REACH = 2.0  # trust radii to each side
_FINEST, _FARTHEST = 1e-6, 1e6  # a reach that one may ask for
_ENTRIES = 1 << 22  # of the values of a layer, for places that are evaluated at once


def plane(said: Mapping[str, str]) -> dict[str, Any]:
    """J and its quadratic model at θ + a u + b v, and the steps in this plane.

    u and v are chosen by the fields of these names: ``weight 3``, an entry of the flat vector, or
    ``eigenvector 0``, counted from the smallest eigenvalue; orthonormal in this order. ``reach`` is
    how far the plane goes to each side; by default two trust radii. The model is
    ``value + gradient·c + ½ c·hessian·c`` at every c = (a, b).

    Steps are those of `hesse.QuadraticModel` for the cost restricted to the plane.
    """
    numbered = NumberedNetwork.of(said)
    basis = _basis(numbered, said.get("u", ""), said.get("v", ""))
    theta, layout = numbered.cost.theta, numbered.layout

    def at(c: Float[Tensor, "2"]) -> Tensor:
        return numbered.value(layout.unflatten(theta + basis @ c))

    restricted = hesse.Cost.from_function(
        lambda parameters: at(parameters["c"]), {"c": torch.zeros(2, dtype=torch.float64)}
    )
    model = hesse.quadratic(restricted, dense=True)
    radius = model.trust().radius
    reach = _reach(said.get("reach", ""), radius)
    half = POINTS // 2
    line = torch.arange(-half, half + 1, dtype=torch.float64) * (reach / half)
    places = torch.cartesian_prod(line, line).flip(1)  # a row for each b
    widest = max(map(int, numbered.network.widths))
    with torch.no_grad():
        chunk = max(1, _ENTRIES // (numbered.samples * widest))
        true = torch.vmap(at, chunk_size=chunk)(places)
    H = model.hessian
    assert isinstance(H, hesse.BlockHessian)
    return {
        "basis": basis.T.tolist(),
        "line": line.tolist(),
        "true": [_number(value) for value in true.tolist()],
        "value": model.value,
        "gradient": model.gradient.tolist(),
        "hessian": H.dense().tolist(),
        "radius": _number(radius),
        "stationary": str(model.stationary_point()),
        **_steps(model, reach, true.numpy(), places.numpy()),
    }


def _basis(numbered: NumberedNetwork, u: str, v: str) -> Float[Tensor, "P 2"]:
    if numbered.layout.size < 2:
        raise HesseValueError("network: a plane needs two parameters, and this network has one")
    vectors = [_direction(numbered, name, text) for name, text in (("u", u), ("v", v))]
    basis = orthonormal(*vectors)
    if basis is None:
        raise HesseValueError(f"v: {v} is {u} again; choose two that span a plane")
    return basis


def _direction(numbered: NumberedNetwork, name: str, text: str) -> Float[Tensor, " P"]:
    kind, _, place = text.partition(" ")
    size = numbered.layout.size
    if not (place.isascii() and place.isdecimal() and len(place) < 4 and int(place) < size):
        raise HesseKeyError(
            f"{name}: expected 'weight k' or 'eigenvector k' with k from 0 to {size - 1}, got"
            f" {text[:30]!r}"
        )
    if kind == "weight":
        return torch.eye(size, dtype=torch.float64)[int(place)]
    if kind == "eigenvector":
        model = hesse.quadratic(numbered.cost, dense=True)
        vector = model.eigh().vectors[:, int(place)]
        # Downhill to the right and upwards.
        return -vector if float(vector @ model.gradient) > 0 else vector
    raise HesseKeyError(f"{name}: expected 'weight k' or 'eigenvector k', got {text[:30]!r}")


def _reach(text: str, radius: float) -> float:
    if not text:
        return _REACH * radius if 0 < radius < math.inf else 1.0
    try:
        reach = float(text)
    except ValueError:
        reach = math.nan
    if not _FINEST <= reach <= _FARTHEST:
        raise HesseValueError(
            f"reach: expected a number from {_FINEST:g} to {_FARTHEST:g}, got {text[:30]!r}"
        )
    return reach


def _steps(
    model: "hesse.QuadraticModel", reach: float, true: np.ndarray, places: np.ndarray
) -> dict[str, Any]:
    """Newton's step, and for a slider those of trust regions and with the cubic term."""
    radii = np.geomspace(reach / 50, math.sqrt(2) * reach, STEPS)
    bounds = _bound(model, true, places) * np.geomspace(1 / 30, 30, STEPS)
    try:
        newton = _step(model.newton())
    except HesseError as error:
        newton = {"refused": str(error)}
    return {
        "newton": newton,
        "trust": [{"radius": r, **_step(model.trust_region(r))} for r in radii.tolist()],
        "cubic": [{"bound": M, **_step(model.cubic(M))} for M in bounds.tolist()],
    }


def _bound(model: "hesse.QuadraticModel", true: np.ndarray, places: np.ndarray) -> float:
    """An M for which M/6 ‖s‖³ bounds the error of the model in the plane; one where there is no
    error."""
    H = model.hessian
    assert isinstance(H, hesse.BlockHessian)
    changes = places @ model.gradient.numpy() + (places @ H.dense().numpy() * places).sum(1) / 2
    lengths = np.linalg.norm(places, axis=1)
    # Near θ the error is that of rounding.
    known = np.isfinite(true) & (lengths > lengths.max() / 4)
    errors = np.abs(true[known] - model.value - changes[known])
    M = float((6 * errors / lengths[known] ** 3).max(initial=0.0))
    return M if 1e-12 < M < math.inf else 1.0


def _step(step: Step) -> dict[str, Any]:
    return {
        "vector": step.vector.tolist(),
        "predicted": step.predicted,
        "actual": step.actual(),
        "multiplier": _number(step.multiplier),
        "reason": step.reason,
    }


def _number(value: float) -> float | None:
    """A number that JSON can write."""
    return value if math.isfinite(value) else None
