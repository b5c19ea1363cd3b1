"""The quadratic model of a cost, made: with H where it fits, else with products."""

import math

from hesse.cost import Cost, cost_with_curvature
from hesse.curvatures.curvature import Curvature
from hesse.errors import HesseValueError, readable_bytes, require_integer, require_progress
from hesse.process.memory import available_bytes
from hesse.taylor import checks
from hesse.taylor.model import QuadraticModel
from hesse.taylor.points import Evaluator
from hesse.words import CurvatureName

# Of (P, P) matrices held at once: H, its eigenvectors, and the two that LAPACK works in while it
# finds them.
_COPIES = 4


def quadratic(
    cost: Cost,
    *,
    curvature: CurvatureName | str | Curvature = "hessian",
    memory: int | None = None,
    dense: bool | None = None,
    products: int = 100,
    progress: bool | None = None,
) -> QuadraticModel:
    """The quadratic model of a cost at its parameters, J(θ + s) ≈ J + gᵀs + ½ sᵀHs.

    J and g are computed here; H and its eigenvectors when they are first needed. Where they do not
    fit, H is known by its products alone and steps are sought in Krylov spaces; ``model.plan`` says
    which.

    Args:
        cost: the cost.
        curvature: what stands for H: ``"hessian"``, the exact one, or another `Curvature`.
        memory: bytes to decide by; by default half of what is free.
        dense: build H (``True``) or never (``False``), whatever fits.
        products: the most products with H for one Krylov space, where H is not built. Of no more
            than so many parameters all of the space is seen; of more, a direction at right angles
            to g may stay unseen, and a step's reason says so.
        progress: show progress bars; by default where work takes more than two seconds and a
            terminal is watching.

    Raises:
        HesseTypeError: an argument of another type.
        HesseValueError: an unknown curvature, or a cost or gradient that is not finite at its
            parameters.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: (p["x"] ** 4).sum(), {"x": torch.tensor([1.0])}
        ... )
        >>> q = hesse.quadratic(cost)
        >>> q.value, q.gradient, q(torch.tensor([0.5])), q.error(torch.tensor([0.5]))
        (1.0, tensor([4.]), tensor(4.5000), tensor(0.5625))
        >>> q.newton().vector
        tensor([-0.3333])
    """
    cost = cost_with_curvature(cost, curvature)
    require_progress(progress)
    checks.require_dense_option(dense, "memory allows")
    products = require_integer(products, "products", 1)
    memory = None if memory is None else require_integer(memory, "memory", 1)
    room = available_bytes(cost.device) // 2 if memory is None else memory
    needed = _COPIES * cost.dtype.itemsize * cost.layout.size**2
    # What the user decides is not held against memory here; `hessian` refuses what does not fit.
    built = needed <= room if dense is None else dense
    point = Evaluator(cost, built, None if built else memory, progress).start()
    if not math.isfinite(point.value):
        raise HesseValueError(
            f"cost: its value is {point.value} at these parameters; a quadratic model needs a"
            " finite cost"
        )
    checks.require_finite_gradient(cost.layout.unflatten(point.gradient))
    return QuadraticModel(
        cost=cost,
        value=point.value,
        gradient=point.gradient,
        curvature=cost.curvature.name,
        dense=built,
        plan=_plan(cost.layout.size, built, dense is not None, needed, room, products),
        _point=point,
        _products=min(products, max(2, room // (cost.dtype.itemsize * max(cost.layout.size, 1)))),
        _progress=progress,
    )


def _plan(P: int, dense: bool, asked: bool, needed: int, room: int, products: int) -> str:
    size = f"P = {P}, so that H and its eigenvectors take {readable_bytes(needed)}"
    why = "as asked" if asked else f"{'within' if dense else 'more than'} {readable_bytes(room)}"
    how = (
        ""
        if dense
        else (
            "; H is known by its products, and steps are sought in Krylov spaces of up to"
            f" {products} of them"
        )
    )
    return f"{'dense' if dense else 'matrix-free'}: {size}, {why}{how}"
