"""Ways of computing that plans choose for what is large, forced for what is small."""

import pytest

from hesse.exact import part_planning
from hesse.exact.contracted import Contracted
from hesse.exact.one_sided import OneSidedPrice
from hesse.process.price import Price


def one_sided(patch: pytest.MonkeyPatch, share: float = 1.0) -> None:
    """One-sided products for a share of the parameters, the lowest."""
    patch.setattr(part_planning, "_SECONDS_OF_A_TRACE", -1.0)
    patch.setattr(part_planning, "_PRODUCTS_OF_A_TRACE", 0)
    patch.setattr(Contracted, "least_of_products", lambda self: Price())
    patch.setattr(
        OneSidedPrice,
        "cheapest",
        lambda self, order, *_: (tuple(order[: round(share * len(order))]), 0.0),
    )
