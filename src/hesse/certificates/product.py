"""What of an operator is held against double backward: one product."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hesse.certificates.comparison import compare
from hesse.certificates.drawing import drawn, shared_generator
from hesse.certificates.matrix import Verdict, agreed, all_of, certificate_of
from hesse.certificates.reference import ByParameter, Request, independent, products

if TYPE_CHECKING:
    from hesse.cost import Cost


def certify_product(
    cost: "Cost", product: Callable[[ByParameter], ByParameter], notes: tuple[str, ...] = ()
) -> Verdict:
    """Hold a product with a random v, of all parameters, against double backward.

    Args:
        cost: the cost.
        product: v -> H v, both by parameter.
        notes: for the certificate.
    """
    start, (cost, notes) = time.perf_counter(), independent(cost, notes)
    random = shared_generator()
    v = {name: drawn(parameter, random) for name, parameter in cost.parameters.items()}
    requests = [Request(v, cost.layout.names)]
    comparison = compare(cost, requests, [product(v)], products(cost, requests))
    compared = f"1 product with {all_of(cost)}"
    certificate = certificate_of(cost, comparison, compared, start, notes)
    return agreed(Verdict(certificate, comparison.wrong[0], comparison.undefined))
