"""The trajectories of methods over the true cost when they may move within a plane only: the points
that each comes to, one after another."""

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from hesse.errors import HesseValueError
from hesse.plot.canvas import GREEN, ORANGE, PURPLE
from hesse.plot.section import Section
from hesse.taylor.subproblem import spectral
from hesse.words.shapes import Float

# Coordinates c in the plane, of one point and of all that a method comes to.
Coordinates = Float[np.ndarray, " 2"]
Trajectory = Float[np.ndarray, "N 2"]
# The most steps of one method: more are not told apart in a picture.
_STEPS = 25
# Of the first trust radius, or of the picture's size: a method that moves by less is at rest.
_REST = 1e-6


def newton(plane: Section, radius: float) -> Iterator[Coordinates]:
    """c ← c − H⁻¹ g: to the stationary point of each model, whatever its kind."""
    place = np.zeros(2)
    while np.linalg.cond(plane.hessian) < 1 / np.finfo(float).eps:
        move = -np.linalg.solve(plane.hessian, plane.gradient)
        yield (place := place + move)
        plane = plane.moved(move)


def gradient_descent(plane: Section, radius: float) -> Iterator[Coordinates]:
    """c ← c − g / L, L the largest |eigenvalue| of H at θ."""
    place, largest = np.zeros(2), float(np.abs(np.linalg.eigvalsh(plane.hessian)).max())
    while largest > 0:
        move = -plane.gradient / largest
        yield (place := place + move)
        plane = plane.moved(move)


def trust_region(plane: Section, radius: float) -> Iterator[Coordinates]:
    """The minimiser of each model within a radius that shrinks where the model is wrong and grows
    where it is right.

    Source:
        J. Nocedal and S. J. Wright, Numerical Optimization, 2nd ed. (2006), algorithm 4.1.
    """
    place, least = np.zeros(2), _REST * radius
    while radius > least:
        values, vectors = np.linalg.eigh(plane.hessian)
        solution = spectral.trust_region(values, vectors.T @ plane.gradient, radius)
        move = vectors @ solution.coefficients
        slope, bend = plane.parts(move[:, None])  # gᵀs and ½ sᵀHs
        predicted = -float(slope[0] + bend[0])
        if not predicted > 0:
            return
        ratio = (plane.q.value - plane.q.true(plane.step(move))) / predicted
        if ratio < 0.25:
            radius = float(np.linalg.norm(move)) / 4
        elif ratio > 0.75 and solution.multiplier > 0:
            radius *= 2
        if ratio > 0.1:
            yield (place := place + move)
            plane = plane.moved(move)


METHODS: dict[str, Callable[[Section, float], Iterator[Coordinates]]] = {
    "Newton": newton,
    "trust region": trust_region,
    "gradient descent": gradient_descent,
}

# How each is drawn: colour, marker and its size, place in the stack; told apart without colours
# too, the many steps lowest.
STYLES = {
    "Newton": (PURPLE, "s", 6, 2),
    "trust region": (GREEN, "o", 5, 1),
    "gradient descent": (ORANGE, "D", 4, 0),
}


def trajectory(method: str, plane: Section, radius: float, reach: float) -> Trajectory:
    """The places that a method comes to, θ first: until it rests, leaves the picture, or meets a
    cost that is not finite.

    Args:
        method: a name in ``METHODS``.
        plane: where.
        radius: the first trust radius.
        reach: how far from θ the picture goes.
    """
    places = [np.zeros(2)]
    steps = islice(METHODS[method](plane, radius), _STEPS)
    try:
        for place in steps:
            length = float(np.linalg.norm(place - places[-1]))
            if length > _REST * reach:
                places.append(place)
            if length <= _REST * reach or np.abs(place).max() > 2 * reach:
                break
    except HesseValueError:  # the way leads to where the cost has no model
        pass
    return np.array(places)
