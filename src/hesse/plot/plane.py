"""The true cost and its quadratic model over a plane, with the paths of methods in it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any, NamedTuple, final

import numpy as np
from torch import Tensor

from hesse.display import Display, facts
from hesse.errors import HesseValueError, require_positive
from hesse.plot.canvas import (
    CONTOURS,
    VERMILION,
    colorbar_beside,
    ink,
    legend_above,
    paper,
    signed,
)
from hesse.plot.picture import Picture
from hesse.plot.section import Section, direction, orthonormal, require_model_and_points
from hesse.plot.trajectories import METHODS, STYLES, trajectory
from hesse.taylor import QuadraticModel
from hesse.taylor.subproblem.space import random_unit
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from plotly.graph_objects import Figure as PlotlyFigure

_REACH = 1.8  # trust radii to each side: the region of trust fills half of the width
_LEVELS = 12  # of the contours


class Direction(NamedTuple):
    """A direction, and what it is in words."""

    vector: Float[Tensor, " P"]
    name: str


@final
@dataclass(eq=False, repr=False)
class Plane(Picture):
    """J(θ + a u + b v) and its quadratic model for orthonormal u, v; paths of methods that move in
    this plane only.

    Attributes:
        a, b: the distances along u and v, in units of the parameters; θ is at 0, 0.
        true, model: both costs, one row for each b; the true one nan where it is not finite.
        radius: how far the model can be trusted downhill in this plane, by `QuadraticModel.trust`.
        tolerance: of the relative error, for that.
        axes: what u and v are, in words.
        paths: by method, the places (a, b) it comes to on the true cost, θ first.

    Examples:
        >>> import torch, hesse
        >>> f = lambda p: (1 - p["x"][0]) ** 2 + 100 * (p["x"][1] - p["x"][0] ** 2) ** 2
        >>> cost = hesse.Cost.from_function(f, {"x": torch.tensor([-1.0, 1.0]).double()})
        >>> plane = Plane.from_model(hesse.quadratic(cost), span=3.0)
        >>> plane.true.shape, list(plane.paths)
        ((41, 41), ['Newton', 'trust region', 'gradient descent'])
    """

    _kind = CONTOURS

    a: np.ndarray
    b: np.ndarray
    true: np.ndarray
    model: np.ndarray
    radius: float
    tolerance: float
    axes: tuple[str, str]
    paths: dict[str, np.ndarray]

    @staticmethod
    def from_model(
        q: QuadraticModel,
        directions: str | Sequence[Any] | None = None,
        *,
        span: float | None = None,
        tolerance: float = 0.1,
        points: int = 41,
    ) -> "Plane":
        """Evaluate both over a plane, and follow the methods in it.

        Args:
            q: the model.
            directions: two vectors, dictionaries or steps, made orthonormal in their order;
                ``"newton"``: −g and the step to the model's stationary point; ``"eigenvectors"``:
                those of the extreme eigenvalues, for which H is built. By default the eigenvectors
                where H is built, and −g and Newton's step where it is not.
            span: how far to each side, in units of the parameters; by default beyond the trust
                radius.
            tolerance: of the relative error, for the trust radius.
            points: to a side; the cost is evaluated at so many squared, besides what the paths
                take.

        Raises:
            HesseError: directions that do not fit the model or lie on one line; fewer than two
                parameter entries; a span, a tolerance or points that cannot be used.
        """
        points = require_model_and_points(q, points)
        if q.layout.size < 2:
            raise HesseValueError(
                "Plane: a plane needs two parameter entries, and this cost has one; draw a"
                " hesse.Slice"
            )
        tolerance = require_positive(tolerance, "tolerance")
        if span is not None:
            span = require_positive(span, "span")
        chosen = ("eigenvectors" if q.dense else "newton") if directions is None else directions
        axes = (
            CHOICES[chosen](q)
            if isinstance(chosen, str) and chosen in CHOICES
            else _given(q, chosen)
        )
        basis = orthonormal(*(axis.vector for axis in axes))
        if basis is None:
            raise HesseValueError("directions: they lie on one line; give two that span a plane")
        plane = Section(q, basis)
        slope = plane.gradient if plane.gradient.any() else np.array([-1.0, 0.0])
        radius = q.trust(plane.step(-slope), tolerance).radius
        span = span or _span(plane, radius)
        line = np.linspace(-span, span, points)
        places = np.stack(np.meshgrid(line, line)).reshape(2, -1)
        true, model = (
            costs.reshape(points, points) for costs in (plane.true(places), plane.model(places))
        )
        first = radius if 0 < radius < math.inf else span / 4
        return Plane(
            a=line,
            b=line,
            true=true,
            model=model,
            radius=radius,
            tolerance=tolerance,
            axes=(axes[0].name, axes[1].name),
            paths={method: trajectory(method, plane, first, span) for method in METHODS},
        )

    def interactive(self, path: "str | PathLike[str] | None" = None) -> "PlotlyFigure":
        """The two costs as surfaces that can be turned and looked into, with the paths on the true
        one. Needs Plotly (``pip install 'hesse[interactive]'``).

        Args:
            path: of a page of HTML that needs nothing else, if there is to be one.

        Returns:
            Plotly's figure, which a notebook shows.

        Raises:
            HesseImportError: Plotly is not installed.
            HesseTypeError, HesseValueError: the path is none, or does not end in ``.html``.
            HesseFileError: the page cannot be written.
        """
        from hesse.plot.interactive import landscape

        return landscape(self, path)

    def _display(self) -> Display:
        ends = {name: len(places) - 1 for name, places in self.paths.items()}
        return Display(
            "Plane",
            f"the cost and its quadratic model at {len(self.a)} x {len(self.b)} points",
            facts(
                a=f"along {self.axes[0]}",
                b=f"along {self.axes[1]}",
                true_cost=f"from {np.nanmin(self.true):.4g} to {np.nanmax(self.true):.4g}",
                trust=f"radius {self.radius:.4g}, within {self.tolerance:.0%}",
                steps=", ".join(f"{name} {steps}" for name, steps in ends.items()),
            ),
            next=("plane.plot()", 'plane.interactive("plane.html")', "plane.paths"),
        )

    @property
    def _size(self) -> tuple[float, float]:
        return 7.4, 6.6

    def _draw(self, ax: "Axes", style: dict[str, Any]) -> dict[str, Any]:
        from matplotlib.colors import BoundaryNorm
        from matplotlib.lines import Line2D
        from matplotlib.patches import Circle

        levels, masked = self._levels(), np.ma.masked_invalid(self.true)
        norm = BoundaryNorm(levels, 256, extend="both")
        filled = ax.contourf(
            self.a,
            self.b,
            masked,
            levels,
            **{"cmap": "Blues", "norm": norm, "alpha": 0.55, **style},
        )
        true = self._contours(ax, masked, levels, colors=ink(), linewidths=0.8, linestyles="solid")
        model = self._contours(
            ax, self.model, levels, colors=VERMILION, linewidths=1.0, linestyles="dashed"
        )
        keys: list[Any] = [Line2D([], [], color=ink(), linewidth=1, label="true cost")]
        keys.append(
            Line2D(
                [], [], color=VERMILION, linewidth=1, linestyle="dashed", label="quadratic model"
            )
        )
        paths = {}
        for method, places in self.paths.items():
            colour, marker, size, above = STYLES[method]
            (paths[method],) = ax.plot(
                *places.T, color=colour, marker=marker, markersize=size, linewidth=1.8, label=method
            )
            paths[method].set(markeredgecolor=paper(ax), markeredgewidth=0.5, zorder=3 + above)
        keys += paths.values()
        circle = None
        if 0 < self.radius < math.inf:
            circle = ax.add_patch(
                Circle((0, 0), self.radius, fill=False, color=ink(), linewidth=1.3, linestyle=":")
            )
            keys.append(
                Line2D(
                    [],
                    [],
                    color=ink(),
                    linewidth=1.3,
                    linestyle=":",
                    label=f"trust radius {self.radius:.3g}",
                )
            )
        (point,) = ax.plot(
            [0],
            [0],
            "*",
            color=ink(),
            markersize=12,
            markeredgecolor=paper(ax),
            label="θ",
            zorder=7,
        )
        ax.set(xlim=self.a[[0, -1]], ylim=self.b[[0, -1]], aspect="equal")
        ax.set(
            **{
                f"{x}label": f"along {name}\n(units of the parameters)"
                for x, name in zip("xy", self.axes, strict=True)
            }
        )
        ax.set_title("The cost and its quadratic model over a plane", pad=46)
        bar = colorbar_beside(ax, filled, label="cost J  (units of the loss)", format="%.3g")
        legend = legend_above(ax, 4, handles=[*keys, point], columnspacing=1.2)
        return {
            "filled": filled,
            "true": true,
            "model": model,
            "circle": circle,
            "paths": paths,
            "point": point,
            "legend": legend,
            "colorbar": bar,
        }

    def _contours(self, ax: "Axes", costs: np.ndarray, levels: np.ndarray, **style: Any) -> Any:
        """The contours at those levels that the costs reach; matplotlib warns of others."""
        reached = levels[(np.nanmin(costs) < levels) & (levels < np.nanmax(costs))]
        return ax.contour(self.a, self.b, costs, reached, **style) if len(reached) else None

    def _levels(self) -> np.ndarray:
        """For the contours of both: as much of the picture lies between any two, by the true
        cost."""
        levels = np.unique(np.nanquantile(self.true, np.linspace(0, 1, _LEVELS)))
        # A flat cost has one level, and contours need two.
        return levels if len(levels) > 1 else levels[0] + np.array([0.0, abs(levels[0]) or 1.0])


def _eigenvectors(q: QuadraticModel) -> tuple[Direction, Direction]:
    """Those of the smallest and of the largest eigenvalue, each turned downhill."""
    values, vectors = q.eigh()
    ends = [(vectors[:, k], float(values[k]), end) for k, end in ((-1, "largest"), (0, "smallest"))]
    first, second = (
        Direction(
            -v if float(q.gradient @ v) > 0 else v,
            f"the eigenvector of the {end} λ = {signed(value)}",
        )
        for v, value, end in ends
    )
    return first, second


def _newton(q: QuadraticModel) -> tuple[Direction, Direction]:
    """−g and Newton's step; random directions in the place of one that is not there, or that adds
    nothing."""
    to_stationary = q.stationary_point().vector
    candidates = [
        Direction(-q.gradient, "−g"),
        *([] if to_stationary is None else [Direction(to_stationary, "Newton's step, across −g")]),
    ]
    candidates += [
        Direction(random_unit(q.gradient, seed), "a random direction") for seed in range(2)
    ]
    kept: list[Direction] = []
    for axis in candidates:
        if (
            bool(axis.vector.any())
            and orthonormal(*(other.vector for other in kept), axis.vector) is not None
        ):
            kept.append(axis)
    return kept[0], kept[1]


CHOICES: dict[str, Callable[[QuadraticModel], tuple[Direction, Direction]]] = {
    "eigenvectors": _eigenvectors,
    "newton": _newton,
}


def _given(q: QuadraticModel, directions: Any) -> tuple[Direction, Direction]:
    if not (isinstance(directions, tuple | list) and len(directions) == 2):
        many = f" of {len(directions)}" if isinstance(directions, tuple | list) else ""
        description = (
            repr(directions)
            if isinstance(directions, str)
            else f"a {type(directions).__name__}{many}"
        )
        raise HesseValueError(
            f"directions: expected two directions or one of {', '.join(map(repr, CHOICES))}; got"
            f" {description}"
        )
    first, second = (
        Direction(
            direction(q, given, f"directions[{k}]"),
            getattr(given, "method", f"direction {k + 1}").replace("_", " "),
        )
        for k, given in enumerate(directions)
    )
    return first, second


def _span(plane: Section, radius: float) -> float:
    """Some trust radii; where there is no such bound, beyond the model's stationary point, or
    ‖θ‖."""
    if 0 < radius < math.inf:
        return _REACH * radius
    step = np.linalg.lstsq(plane.hessian, plane.gradient, rcond=None)[0]
    return 1.5 * float(np.linalg.norm(step)) or float(plane.q.cost.theta.norm()) or 1.0
