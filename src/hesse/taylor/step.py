"""A step s that a quadratic model proposes, and what it does to the true cost."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from hesse.display import Display, Displayed, facts
from hesse.taylor.subproblem.space import StepInSpace
from hesse.words.shapes import Float

if TYPE_CHECKING:
    from hesse.taylor.model import QuadraticModel


@dataclass(frozen=True, eq=False, repr=False)
class Step(Displayed):
    """A step from θ to θ + s.

    Attributes:
        method: what made it.
        vector: s, flat, in layout order.
        predicted: how much the model falls, −(gᵀs + ½ sᵀHs); never negative.
        multiplier: λ of (H + λ I) s = −g; for `levenberg_marquardt` the factor of its diagonal, for
            `saddle_free` what is added to |H|.
        reason: how the step came about.
        cost: J(θ + s), finite.

    Examples:
        >>> import torch, hesse
        >>> cost = hesse.Cost.from_function(
        ...     lambda p: (p["x"] ** 2).sum(), {"x": torch.tensor([3.0, 4.0])}
        ... )
        >>> step = hesse.quadratic(cost).newton()
        >>> step.vector, step.predicted, step.actual()
        (tensor([-3., -4.]), 25.0, 25.0)
        >>> step.parameters()
        {'x': tensor([0., 0.])}
    """

    method: str
    vector: Float[Tensor, " P"]
    predicted: float
    multiplier: float
    reason: str
    cost: float
    _model: "QuadraticModel"

    def actual(self) -> float:
        """How much the true cost falls, J(θ) − J(θ + s)."""
        return self._model.value - self.cost

    def parameters(self) -> dict[str, Tensor]:
        """{name: Tensor} at θ + s."""
        cost = self._model.cost
        moved = cost.layout.unflatten(cost.theta + self.vector)
        return {name: part.to(cost.parameters[name].dtype) for name, part in moved.items()}

    @property
    def norm(self) -> float:
        """‖s‖."""
        return float(torch.linalg.vector_norm(self.vector))

    def _display(self) -> Display:
        return Display(
            "Step",
            f"{self.method}, ‖s‖ = {self.norm:.4g}",
            facts(
                predicted_decrease=f"{self.predicted:.6g}",
                actual_decrease=f"{self.actual():.6g}",
                cost_after_it=f"{self.cost:.6g}",
                multiplier=f"{self.multiplier:.4g}",
                reason=self.reason,
            ),
            next=("s.vector", "s.parameters()", "q.trust(s)"),
        )

    def __str__(self) -> str:
        return (
            f"{self.method}: ‖s‖ = {self.norm:.4g}, predicted decrease {self.predicted:.4g}, actual"
            f" {self.actual():.4g}, multiplier {self.multiplier:.4g}; {self.reason}"
        )


def make_step(model: "QuadraticModel", method: str, proposed: StepInSpace) -> Step:
    """The step, halved until the cost at its end is finite.

    Every method has gᵀs <= 0 and a model that is lower at s: then it is lower at any part of s.
    """
    # It ends: J is finite at θ, where the quadratic model was made.
    vector, part, reason = proposed.vector, 1.0, proposed.reason
    while not math.isfinite(after := model.true(vector)):
        vector, part = vector / 2, part / 2
    if part < 1:
        reason += f"; shortened to {part:.3g} of its length, beyond which the cost is not finite"
    predicted = max(0.0, -(part * proposed.slope + part**2 * proposed.bend / 2))
    return Step(method, vector, predicted, proposed.multiplier, reason, after, model)
