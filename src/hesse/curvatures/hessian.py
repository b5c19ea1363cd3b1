"""H = ∂²J/∂θ², all of it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, final

from hesse.curvatures.curvature import Curvature, register

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.derivatives import Derivatives, Map
    from hesse.graph.graph import Graph
    from hesse.products.terms import Term


@final
class Hessian(Curvature):
    """The exact Hessian of the cost."""

    name = "hessian"

    def check(self, cost: "Cost") -> None:
        """Every cost has one."""

    def straight(self, graph: "Graph") -> frozenset[str]:
        """No operation is taken for linear that is not."""
        return frozenset()

    def product(self, by: "Derivatives", term: "Term", moving: Sequence[int] | None) -> "Map":
        """H v."""
        return by.second(term.function, term.theta, moving)

    def reference(self, cost: "Cost") -> "Cost":
        """The cost itself."""
        return cost


# The one that every function takes where none is named.
HESSIAN = register(Hessian())
