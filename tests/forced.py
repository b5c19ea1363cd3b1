"""Ways of computing that plans choose for what is large, forced for what is small."""

from typing import Any

import pytest

from hesse.cost import Cost
from hesse.exact import part_plan, part_planning, planning
from hesse.exact.contracted import Contracted
from hesse.exact.fallback import failures
from hesse.exact.one_sided import OneSidedPrice
from hesse.exact.part_plan import PlannedPart
from hesse.exact.part_planning import PartPlanner
from hesse.process.price import Price


def contracted(patch: pytest.MonkeyPatch) -> None:
    """Contractions where products with all unit vectors at once would cost less."""
    patch.setattr(part_planning, "_FEW_PRODUCTS", 0)


def _made_anew(patch: pytest.MonkeyPatch) -> None:
    """Plans that are forced are not found again by who forces nothing."""

    def planned(cost: Cost, *arguments: Any, **options: Any) -> PlannedPart:
        wanted, single = arguments[0], cost.data is not None and cost.data.is_single
        planner = PartPlanner(cost, *arguments, **options)
        return part_plan._planned(planner, cost, wanted, single).of(cost)

    patch.setattr(planning, "planned_part", planned)


def one_sided(patch: pytest.MonkeyPatch, share: float = 1.0) -> None:
    """One-sided products for a share of the parameters, the lowest."""
    _made_anew(patch)
    patch.setattr(part_planning, "_SECONDS_OF_A_TRACE", -1.0)
    patch.setattr(part_planning, "_PRODUCTS_OF_A_TRACE", 0)
    patch.setattr(Contracted, "least_of_products", lambda self: Price())
    patch.setattr(
        OneSidedPrice,
        "cheapest",
        lambda self, order, *_: (tuple(order[: round(share * len(order))]), 0.0),
    )


def together(patch: pytest.MonkeyPatch) -> None:
    """Products for all parameters side by side, where there are few."""
    patch.setattr(part_planning, "_FEW_PRODUCTS", 512)
    patch.setattr(PartPlanner, "_cost_less_together", _few)


def _few(planner: PartPlanner, contracted: Contracted) -> bool:
    names, failed = planner._cost.layout.names, failures(planner._cost)
    return planner._together(names, contracted.budget, failed) is not None
