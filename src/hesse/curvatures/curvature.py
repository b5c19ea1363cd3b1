"""What a curvature is, and the curvatures that there are, by name."""

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hesse.errors import HesseTypeError, HesseValueError, require_word

if TYPE_CHECKING:
    from hesse.cost import Cost
    from hesse.derivatives import Derivatives, Map
    from hesse.graph.graph import Graph
    from hesse.products.terms import Term


class Curvature(abc.ABC):
    """A symmetric matrix of second derivatives of a cost: H itself, or what is left of it.

    It says how it is carried down the graph (`straight`), how it is multiplied with (`product`),
    and what it is held against (`reference`). The three are to be independent: each shows whether
    the others are right. The penalty, which has no prediction, comes with its own Hessian, in every
    curvature that holds it.

    Attributes:
        name: what a user calls it.
        holds_penalty: whether the penalty's second derivatives are part of it.
    """

    name: str
    holds_penalty: bool = True

    def __reduce_ex__(self, protocol: Any) -> Any:
        # One that has a name is the same one in every copy and every process.
        if CURVATURES.get(self.name) is self:
            return curvature_named, (self.name,)
        return super().__reduce_ex__(protocol)

    @abc.abstractmethod
    def check(self, cost: "Cost") -> None:
        """Raise on a cost that has no such curvature.

        Raises:
            HesseValueError: says what the cost lacks.
        """

    def applied(self, cost: "Cost") -> "Cost":
        """The cost that blocks and products are taken of: another one where the curvature has
        something else in place of its loss."""
        return cost

    @abc.abstractmethod
    def straight(self, graph: "Graph") -> frozenset[str]:
        """The values of a graph whose operations count as linear (straight), so that their own
        second derivative is left out."""

    @abc.abstractmethod
    def product(self, by: "Derivatives", term: "Term", moving: Sequence[int] | None) -> "Map":
        """v -> C v of one summand of the cost at ``term.theta``, where v moves the parameters at
        some places."""

    @abc.abstractmethod
    def reference(self, cost: "Cost") -> "Cost":
        """A cost whose Hessian by double backward, at θ, is this curvature; made of the user's own
        function and nothing else."""


# By name, filled by the modules of this package as they are loaded.
CURVATURES: dict[str, Curvature] = {}


def register(curvature: Curvature) -> Curvature:
    """Let a curvature be asked for by its name.

    Raises:
        HesseValueError: the name is taken.
    """
    # Not replaced in silence: everything that asks by the name would change its meaning.
    if curvature.name in CURVATURES:
        raise HesseValueError(
            f"curvature: the name {curvature.name!r} is taken; unregister({curvature.name!r})"
            " frees it"
        )
    CURVATURES[curvature.name] = curvature
    return curvature


def unregister(name: str) -> None:
    """Forget a curvature."""
    # Looked up first: a name that is not there ends in the error that offers the nearest.
    CURVATURES.pop(curvature_named(name).name)


def curvature_named(curvature: Any) -> Curvature:
    """A curvature, or the one of a name.

    Raises:
        HesseValueError: no curvature has the name; the text offers the nearest.
        HesseTypeError: neither a name nor a curvature.

    Examples:
        >>> curvature_named("hessian").name
        'hessian'
    """
    if isinstance(curvature, Curvature):
        return curvature
    if not isinstance(curvature, str):
        raise HesseTypeError(
            f"curvature: expected a name ({', '.join(map(repr, CURVATURES))}) or a Curvature, got"
            f" {type(curvature).__name__}"
        )
    require_word(curvature, "curvature", CURVATURES)
    return CURVATURES[curvature]


def require_prediction(cost: "Cost", name: str) -> None:
    """Raise on a cost without a prediction between its parameters and its loss, for a curvature
    that is made there.

    Raises:
        HesseValueError: says why there is none.
    """
    # The loss as a function of the prediction is there only where the parameters reach it through
    # the prediction alone.
    if cost.loss_of_prediction is None:
        why = (
            "a function of its parameters, made by Cost.from_function"
            if cost.predict is None
            else (
                "one whose model gives the loss itself, or whose loss has parameters that are asked"
                " about"
            )
        )
        raise HesseValueError(
            f"curvature: {name!r} is made of the derivatives of a prediction and of the loss in it,"
            f" and this cost is {why}: make it with hesse.Cost(model, loss, data), of the model's"
            " parameters alone, or ask for curvature='hessian'"
        )
