"""What a report is about: everything that is computed of a cost for it, each once."""

from functools import cached_property
from typing import final

from hesse.cost import Cost
from hesse.derivation.derivation import Derivation
from hesse.derivation.derive import derive
from hesse.exact.plan import Plan
from hesse.exact.planning import plan
from hesse.matrix.block_hessian import BlockHessian
from hesse.plot import ErrorCurve, Plane, Slice
from hesse.plot.layers import Layers
from hesse.products.hessian_operator import HessianOperator
from hesse.reports.steps import Steps, steps_within
from hesse.spectra.eigenpair_search import eigenpairs
from hesse.spectra.eigenpairs import Eigenpairs
from hesse.spectra.layers import layers
from hesse.taylor import QuadraticModel, StationaryPoint, Trust, quadratic

# The largest P whose eigenvalues are all computed, which takes P³: a minute or so. Beyond it H is
# known by its products.
_MOST_DENSE = 4000
# Eigenpairs of both ends together.
_PAIRS = 6


@final
class Findings:
    """Of one cost.

    Args:
        cost: the cost.
        memory, progress: as for `hesse.hessian`.
        tolerance: of the model, as for `QuadraticModel.trust`.
        model: the quadratic model, where there is one already.
    """

    def __init__(
        self,
        cost: Cost,
        memory: int | None = None,
        progress: bool | None = None,
        tolerance: float = 0.1,
        model: QuadraticModel | None = None,
    ) -> None:
        self.cost, self.memory, self.progress = cost, memory, progress
        self._tolerance, self._given = tolerance, model

    @cached_property
    def plan(self) -> Plan:
        """What the whole H would take."""
        return plan(self.cost, memory=self.memory)

    @cached_property
    def products_only(self) -> str:
        """Why H is not built; empty where it is."""
        size = self.cost.layout.size
        if size > _MOST_DENSE:
            return (
                f"P = {size:,} is more than {_MOST_DENSE:,}, up to which a report builds H and"
                " computes all its eigenvalues"
            )
        return f"H does not fit: {self.plan.too_large}" if self.plan.too_large else ""

    @cached_property
    def model(self) -> QuadraticModel:
        """The quadratic model of the cost, which has H."""
        return self._given or quadratic(
            self.cost,
            dense=not self.products_only,
            memory=self.memory,
            progress=self.progress,
        )

    @property
    def H(self) -> BlockHessian | HessianOperator:
        """H, or what multiplies with it."""
        return self.model.hessian

    @cached_property
    def layers(self) -> Layers:
        """Trace and largest eigenvalue, by layer."""
        return layers(self.H, memory=self.memory, progress=self.progress)

    @cached_property
    def pairs(self) -> Eigenpairs:
        """Those at both ends."""
        count = min(_PAIRS, self.cost.layout.size)
        return eigenpairs(self.H, count, "both", memory=self.memory, progress=self.progress)

    @cached_property
    def trust(self) -> Trust:
        """How far the model is to be trusted."""
        return self.model.trust(tolerance=self._tolerance)

    @cached_property
    def line(self) -> Slice:
        """Cost and model along a line, and the radius that the trust has."""
        return Slice.from_model(self.model, tolerance=self._tolerance)

    @cached_property
    def plane(self) -> Plane:
        """Cost and model over a plane."""
        return Plane.from_model(self.model, tolerance=self._tolerance)

    @cached_property
    def error(self) -> ErrorCurve:
        """The error of the model."""
        return ErrorCurve.from_trust(self.trust)

    @cached_property
    def stationary_point(self) -> StationaryPoint:
        """Where the model is stationary."""
        return self.model.stationary_point()

    @cached_property
    def steps(self) -> Steps:
        """What each method proposes."""
        return steps_within(self.model, self.trust)

    @cached_property
    def derivation(self) -> Derivation:
        """The formula of every block."""
        return derive(self.cost)
